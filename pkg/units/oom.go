package units

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/cgroup"
)

// ooms knows in which units the kernel has killed processes for want of memory, and
// how many. The manager, which goes on then, does not tell; the kernel changes the unit's
// memory.events (cgroups(7)), which goes with the unit's last process. What
// happens while no daemon runs is seen in units that live on. All but waiting is
// under the Manager's lock.
type ooms struct {
	watch *os.File                          // inotify(7); nil for none
	raw   int                               // its descriptor
	where func(pid int, unit string) string // the file of a process's unit; "" for none
	of    map[string]*oomWatch              // by unit's digits
	by    map[int32]*oomWatch               // by watch descriptor
	told  map[string]uint64                 // by the file of a slice: how many of its kills are known whose they were
}

type oomWatch struct {
	short  string
	file   string // "" where nothing is seen
	pid    int
	wd     int32 // -1 when the kernel has none
	kills  uint64
	unread bool // the file has changed, and went before it was read
}

// slice is the file that counts those of the units beside it too, and stays.
func (w *oomWatch) slice() string {
	return filepath.Join(filepath.Dir(filepath.Dir(w.file)), filepath.Base(w.file))
}

// watchOOMs makes one; where the kernel has no watches left, nothing is seen.
func watchOOMs() *ooms {
	o := &ooms{raw: -1, where: memoryEvents, of: map[string]*oomWatch{}, by: map[int32]*oomWatch{}, told: map[string]uint64{}}
	if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
		o.raw, o.watch = fd, os.NewFile(uintptr(fd), "inotify")
	}
	return o
}

// memoryEvents is the file of the unit that a process is in; "" for none.
func memoryEvents(pid int, unit string) string {
	dir, err := cgroup.Dir(cgroup.Of(pid))
	if err != nil {
		return ""
	}
	before, _, found := strings.Cut(dir+"/", "/"+unit+"/")
	if !found {
		return ""
	}
	return filepath.Join(before, unit, "memory.events")
}

// wait calls changed, which has to call [ooms.read] and tells, whenever there is something, until the end of close.
func (o *ooms) wait(changed func()) {
	if o.watch == nil {
		return
	}
	conn, err := o.watch.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(uintptr) bool { changed(); return false }) // it ends when it is closed
}

// follow watches a running unit; again is no matter.
func (o *ooms) follow(short, unit string, pid int) {
	if o.raw < 0 || pid == 0 || o.of[short] != nil && o.of[short].pid == pid {
		return
	}
	o.forget(short)
	w := &oomWatch{short: short, file: o.where(pid, unit), pid: pid, wd: -1}
	o.of[short] = w
	wd, err := unix.InotifyAddWatch(o.raw, w.file, unix.IN_MODIFY)
	if err != nil { // there is no such file without the memory controller: the slice's, if it has one, is of others
		w.file = ""
		return
	}
	w.wd = int32(wd)
	o.by[w.wd] = w
	if _, known := o.told[w.slice()]; !known {
		o.told[w.slice()], _ = cgroup.OOMKills(w.slice())
	}
	w.kills, _ = cgroup.OOMKills(w.file) // which the slice has counted
}

// look reads a unit's file, and says whether there are more kills.
func (o *ooms) look(w *oomWatch) bool {
	n, err := cgroup.OOMKills(w.file)
	w.unread = err != nil
	if n <= w.kills {
		return false
	}
	o.told[w.slice()] += n - w.kills
	w.kills = n
	return true
}

// read takes what the kernel has told, and returns the units with more kills.
func (o *ooms) read() (more []string) {
	var buf [4096]byte
	for o.raw >= 0 {
		n, err := unix.Read(o.raw, buf[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n < unix.SizeofInotifyEvent {
			return more
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at])) // the kernel aligns them
			at += unix.SizeofInotifyEvent + int(e.Len)
			w := o.by[e.Wd]
			switch {
			case w == nil:
			case e.Mask&unix.IN_IGNORED != 0: // the file is gone
				delete(o.by, e.Wd)
				w.wd = -1
			case e.Mask&unix.IN_MODIFY != 0:
				if o.look(w) && !slices.Contains(more, w.short) {
					more = append(more, w.short)
				}
			}
		}
	}
	return more
}

// kills is what is known of a unit with that main process.
func (o *ooms) kills(short string, pid int) uint64 {
	if w := o.of[short]; w != nil && w.pid == pid {
		return w.kills
	}
	return 0
}

// ended is how many processes the kernel has killed in a unit that has ended, its
// main process by SIGKILL or not; [ooms.read] goes before. It tells of a change a
// moment later, which may be too late to read the file: then one that the slice has
// more than is known of was this unit's.
func (o *ooms) ended(short string, pid int, bySIGKILL bool) uint64 {
	w := o.of[short]
	if w == nil || w.pid != pid || w.file == "" {
		return 0
	}
	if bySIGKILL {
		n, err := cgroup.OOMKills(w.slice())
		more := err == nil && n > o.told[w.slice()]
		if err == nil {
			o.told[w.slice()] = n // less is of a slice that went and came again
		}
		if w.unread || more {
			w.unread = false
			w.kills++
		}
	}
	return w.kills
}

func (o *ooms) forget(short string) {
	w := o.of[short]
	if w == nil {
		return
	}
	delete(o.of, short)
	if w.wd >= 0 {
		delete(o.by, w.wd)
		_, _ = unix.InotifyRmWatch(o.raw, uint32(w.wd)) // it goes with its file
	}
}

// end has nothing seen any more.
func (o *ooms) end() { o.raw = -1 }

// close is called after end and without the lock, for which what [ooms.wait] calls waits.
func (o *ooms) close() error {
	if o.watch == nil {
		return nil
	}
	return o.watch.Close()
}
