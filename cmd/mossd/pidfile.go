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
		if _, e := strconv.Atoi(string(bytes.TrimSpace(old))); e != nil && len(old) > 0 {
			err = errors.New("there is a file with something else in it")
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
