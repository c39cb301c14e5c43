package main

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
)

// A rootFile is a file in the root file system of the virtual machine. The kernel unpacks the file
// system from an archive (Documentation/driver-api/early-userspace/buffer-format.rst).
type rootFile struct {
	name string // without a leading slash
	mode uint32 // file type and permissions, as in stat(2)
	data []byte
}

const (
	isDirectory  = 0o040755
	isProgram    = 0o100755
	isPlain      = 0o100644
	isCharDevice = 0o020600
)

// writeArchive writes files as a cpio archive in the "newc" format. Every character device gets the
// numbers 5:1, those of /dev/console.
func writeArchive(w io.Writer, files []rootFile) error {
	b := bufio.NewWriter(w)
	for i, f := range append(files, rootFile{name: "TRAILER!!!"}) {
		major, minor := 0, 0
		if f.mode == isCharDevice {
			major, minor = 5, 1
		}
		// Fields: magic, inode, mode, uid, gid, links, time, size, the file system's device, the
		// file's device, length of the name, checksum
		fmt.Fprintf(b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", i+1, f.mode, 0, 0, 1, 0, len(f.data), 0, 0, major, minor, len(f.name)+1, 0)
		fmt.Fprintf(b, "%s\x00", f.name)
		pad(b, 110+len(f.name)+1)
		b.Write(f.data)
		pad(b, len(f.data))
	}
	return b.Flush()
}

// pad writes zero bytes until the length n is a multiple of four.
func pad(b *bufio.Writer, n int) {
	for ; n%4 != 0; n++ {
		b.WriteByte(0)
	}
}

// programFile reads a program for the root file system, and returns an error if it is not
// statically linked, since there are no shared libraries.
func programFile(name, file string) (rootFile, error) {
	program, err := elf.Open(file)
	if err != nil {
		return rootFile{}, fmt.Errorf("%s: %w", file, err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			return rootFile{}, fmt.Errorf("%s is dynamically linked, but the virtual machine has no shared libraries: build it with CGO_ENABLED=0", file)
		}
	}
	data, err := os.ReadFile(file)
	return rootFile{name, isProgram, data}, err
}
