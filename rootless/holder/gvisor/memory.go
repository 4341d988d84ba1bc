package gvisor

import (
	"os"
	"unsafe"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// dropPacketTables gives back the memory of two tables that gopacket fills at
// program start, 2.5 MB each, more than all else an idle process of ours has. The
// only reader is gvisor-tap-vsock where it prints packets, for debugging, which
// rootlesskit does not let it do.
func dropPacketTables() {
	dropPages(unsafe.Pointer(&layers.EthernetTypeMetadata), unsafe.Sizeof(layers.EthernetTypeMetadata))
	dropPages(unsafe.Pointer(&layers.PPPTypeMetadata), unsafe.Sizeof(layers.PPPTypeMetadata))
}

// dropPages makes the whole pages within a variable zero and free. They are in
// the program's bss: anonymous memory, zero at the start.
func dropPages(p unsafe.Pointer, size uintptr) {
	page := uintptr(os.Getpagesize())
	skip := -uintptr(p) & (page - 1)
	if skip >= size {
		return
	}
	if n := (size - skip) &^ (page - 1); n > 0 {
		// A refusal costs memory and nothing else.
		_ = unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(p, skip)), n), unix.MADV_DONTNEED)
	}
}
