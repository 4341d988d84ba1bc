package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// left keeps a file for each child in a directory that a reboot empties, so that
// the next server can end what stays behind of one that was killed together with
// its guard: the file's name is the child's number, its text says which process
// of that number is meant, and for a container's in which mount namespace it is.
// The zero left keeps nothing.
type left struct{ dir string }

// note remembers a child.
func (l left) note(pid int, mounts string) error {
	if l.dir == "" {
		return nil
	}
	begun, err := begunAt(pid)
	if err != nil {
		return err
	}
	fresh := l.of(pid) + unfinished
	if err := os.WriteFile(fresh, []byte(begun+" "+mounts), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, l.of(pid)) // a part of a note would name nobody
}

// unfinished ends the name of a note until all of it is written.
const unfinished = ".new"

// drop forgets a child that has been reaped.
func (l left) drop(pid int) {
	if l.dir != "" {
		_ = os.Remove(l.of(pid)) // a file that stays names a process that is no more
	}
}

func (l left) of(pid int) string { return filepath.Join(l.dir, strconv.Itoa(pid)) }

// sweep kills what an earlier server has left, and waits for its end.
func (l left) sweep(ctx context.Context) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		name, part := strings.CutSuffix(f.Name(), unfinished)
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue // not ours
		}
		if part {
			errs = append(errs, os.Remove(l.of(pid)+unfinished))
			continue
		}
		if err := l.end(ctx, pid); err != nil {
			errs = append(errs, fmt.Errorf("process %d: %w", pid, err))
			continue
		}
		l.drop(pid)
	}
	return errors.Join(errs...)
}

// end kills a child of before, when it is still the one that was noted.
func (l left) end(ctx context.Context, pid int) error {
	text, err := os.ReadFile(l.of(pid))
	if err != nil {
		return err
	}
	noted, mounts, _ := strings.Cut(string(text), " ")
	is := func() bool {
		begun, err := begunAt(pid)
		return err == nil && begun == noted
	}
	if !is() {
		return nil
	}
	if mounts != "" && mountsOf(pid) == mounts { // with all else in it: later nobody would know whose that is
		if err := killIn(ctx, mounts); err != nil {
			return err
		}
	}
	return killOne(ctx, pid, is)
}

// begunAt is the time at which a process began, as proc(5) counts it: with its number it names a process.
func begunAt(pid int) (string, error) {
	f, err := statOf(pid)
	if err != nil {
		return "", err
	}
	const starttime = 22 - 3 // fields are counted from the state, which is the third
	if len(f) <= starttime {
		return "", fs.ErrInvalid
	}
	return f[starttime], nil
}

// statOf are the fields of a process's stat from its state on.
func statOf(pid int) ([]string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])), nil
}
