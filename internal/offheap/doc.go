// Package offheap allocates tables outside Go's heap, for large arrays without pointers. The
// garbage collector neither scans nor counts them, and a page of such a table uses memory only
// after it has been written to. A table for a million connections therefore costs nothing but
// address space until the connections exist.
//
// A table is never moved or grown, and its owner frees it explicitly.
package offheap
