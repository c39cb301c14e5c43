package main

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
)

// A rootFile is a file of the virtual machine's root, which is an archive that its kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type rootFile struct {
	name string // without a slash before it
	mode uint32 // as in stat(2), with the type
	data []byte
}

const (
	isDirectory  = 0o040755
	isProgram    = 0o100755
	isPlain      = 0o100644
	isCharDevice = 0o020600
)

// writeArchive writes files as a cpio archive of the "newc" kind. A character device is the console, 5:1.
func writeArchive(w io.Writer, files []rootFile) error {
	b := bufio.NewWriter(w)
	for i, f := range append(files, rootFile{name: "TRAILER!!!"}) {
		major, minor := 0, 0
		if f.mode == isCharDevice {
			major, minor = 5, 1
		}
		// magic, inode, mode, uid, gid, links, time, size, the file system's device, the file's device, length of the name, checksum
		fmt.Fprintf(b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", i+1, f.mode, 0, 0, 1, 0, len(f.data), 0, 0, major, minor, len(f.name)+1, 0)
		fmt.Fprintf(b, "%s\x00", f.name)
		pad(b, 110+len(f.name)+1)
		b.Write(f.data)
		pad(b, len(f.data))
	}
	return b.Flush()
}

// pad fills up to a multiple of four bytes.
func pad(b *bufio.Writer, n int) {
	for ; n%4 != 0; n++ {
		b.WriteByte(0)
	}
}

// programFile is a program for a root that has no libraries: it has to be linked statically.
func programFile(name, file string) (rootFile, error) {
	program, err := elf.Open(file)
	if err != nil {
		return rootFile{}, fmt.Errorf("%s: %w", file, err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			return rootFile{}, fmt.Errorf("%s is linked with libraries that the machine does not have: build it with CGO_ENABLED=0", file)
		}
	}
	data, err := os.ReadFile(file)
	return rootFile{name, isProgram, data}, err
}
