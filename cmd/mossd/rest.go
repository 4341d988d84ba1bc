package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// restAfter is how long after its start a daemon rests that nobody asks anything.
const restAfter = time.Second

// rest gives back what a daemon does not need that has nothing to do: the heap
// of its last work, and the pages of its program, four fifths of all it takes. Those
// stay in the page cache, from where each comes back, with its neighbours, when it
// is used.
func rest(log *slog.Logger) {
	debug.FreeOSMemory()
	if err := dropProgram(); err != nil {
		log.Debug("the program's pages stay in memory", "error", err)
	}
}

// mapping is a line of maps with what smaps says of it, proc_pid_smaps(5).
type mapping struct {
	begin, end     uintptr
	mode, path     string
	resident, anon int // KiB
}

// untouched says whether all of it is as in its file, now and later: nothing can
// be lost when its pages go.
func (m mapping) untouched() bool {
	return m.anon == 0 && m.mode[0] == 'r' && m.mode[1] == '-'
}

// dropProgram unmaps the pages of what is mapped of this program and cannot be written to.
func dropProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	list, err := mappings(f)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range list {
		if m.path == self && m.untouched() {
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.begin, m.end-m.begin, unix.MADV_DONTNEED); errno != 0 {
				errs = append(errs, os.NewSyscallError("madvise", errno))
			}
		}
	}
	return errors.Join(errs...)
}

// mappings reads smaps.
func mappings(r io.Reader) ([]mapping, error) {
	var list []mapping
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			return list, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		if first := fields[0]; !strings.HasSuffix(first, ":") {
			if len(fields) < 5 || len(fields[1]) != 4 {
				return nil, fmt.Errorf("not a mapping: %q", lines.Text())
			}
			from, to, _ := strings.Cut(first, "-")
			begin, err := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			if err := errors.Join(err, err2); err != nil {
				return nil, err
			}
			if begin >= end {
				return nil, fmt.Errorf("not a mapping: %q", lines.Text())
			}
			list = append(list, mapping{begin: uintptr(begin), end: uintptr(end), mode: fields[1], path: behind(lines.Text(), 5)})
			continue
		}
		if len(list) == 0 {
			continue
		}
		m := &list[len(list)-1]
		for name, to := range map[string]*int{"Rss:": &m.resident, "Anonymous:": &m.anon} {
			if fields[0] == name {
				n, err := strconv.ParseUint(fields[1], 10, 62)
				if err != nil {
					return nil, err
				}
				*to = int(n)
			}
		}
	}
}

// behind is what stands after the first n fields of a line, spaces and all.
func behind(line string, n int) string {
	for range n {
		line = strings.TrimLeft(line, " ")
		_, line, _ = strings.Cut(line, " ")
	}
	return strings.TrimLeft(line, " ")
}
