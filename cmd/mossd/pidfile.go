package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// writePID keeps this process's number in a file, for who looks there; remove
// takes it away again. What a killed daemon has left is replaced, and nothing else.
func writePID(path string) (remove func() error, err error) {
	mine := []byte(strconv.Itoa(os.Getpid()) + "\n")
	old, err := os.ReadFile(path)
	if err == nil {
		pid, e := strconv.Atoi(string(bytes.TrimSpace(old)))
		switch {
		case e != nil && len(old) > 0:
			err = errors.New("there is a file with something else in it")
		case e == nil && pid != os.Getpid() && isDaemon(pid):
			err = fmt.Errorf("it is that of another mossd, which runs as process %d", pid)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = os.WriteFile(path+".new", mine, 0o644) //nolint:gosec // others may know
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the pid file %s: %w", path, err)
	}
	return func() error {
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, mine) {
			return nil //nolint:nilerr // it is not ours any more
		}
		return os.Remove(path)
	}, nil
}

// isDaemon says whether a process is a mossd; its number may be another program's by now.
func isDaemon(pid int) bool {
	name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return err == nil && string(name) == "mossd\n"
}
