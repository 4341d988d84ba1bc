package logs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// packed is what the name of a compressed file ends with, unready what one ends
// with that is being written.
const (
	packed  = ".gz"
	unready = ".gz.tmp"
)

// numbered names a file of a log: the present one is number 0.
func numbered(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// rotated names the rotated files of a log, the oldest, which has the highest
// number, first. One that is there plain and compressed is named plain.
func rotated(path string) []string {
	numbers := map[int]string{}
	entries, _ := os.ReadDir(filepath.Dir(path)) // no directory, no files
	for _, e := range entries {
		s, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if !ok {
			continue
		}
		s, gz := strings.CutSuffix(s, packed)
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 || strconv.Itoa(n) != s || gz && numbers[n] != "" {
			continue
		}
		numbers[n] = filepath.Join(filepath.Dir(path), e.Name())
	}
	var paths []string
	for n, p := range numbers {
		if !strings.HasSuffix(p, packed) {
			p = numbered(path, n)
		}
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int { return number(path, b) - number(path, a) })
	return paths
}

// number is a rotated file's.
func number(path, p string) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(p, path+"."), packed))
	return n
}

// tidy takes away what a killed daemon left of a compression.
func (s *sink) tidy() {
	_ = os.Remove(s.path + unready)
	for _, p := range rotated(s.path) {
		if !strings.HasSuffix(p, packed) {
			_ = os.Remove(p + packed) // the next compression makes it again
		}
	}
}

// packLocked sees to it that rotated files are compressed, in the background.
func (s *sink) packLocked() {
	if !s.packing {
		s.packing = true
		s.packers.Go(s.packer)
	}
}

// removeFiles deletes a log.
func removeFiles(path string) error {
	var errs []error
	_ = os.Remove(path + unready)
	for _, p := range append(rotated(path), path) {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		if !strings.HasSuffix(p, packed) && p != path {
			_ = os.Remove(p + packed)
		}
	}
	return errors.Join(errs...)
}

// openRotated opens the file with a number, plain or compressed.
func openRotated(path string, n int) (logFile, error) {
	p := numbered(path, n)
	f, err := os.Open(p)
	if n > 0 && errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(p + packed)
		return logFile{File: f, packed: true}, err
	}
	return logFile{File: f}, err
}

// logFile is a file that is read.
type logFile struct {
	*os.File
	packed bool
}

// plain unpacks a compressed file into one without a name, in which one can seek.
func (f logFile) plain() (logFile, error) {
	if !f.packed {
		return f, nil
	}
	t, err := nameless(filepath.Dir(f.Name()))
	if err != nil {
		return f, err
	}
	z, err := unpack(f)
	if err == nil {
		_, err = io.Copy(t, z)
	}
	if err != nil && !damaged(err) {
		return f, errors.Join(err, t.Close())
	}
	_ = f.Close() // was only read
	return logFile{File: t}, nil
}

// nameless makes a file that is gone when it is closed.
func nameless(dir string) (*os.File, error) {
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	f, err := os.CreateTemp("", "moss-log-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
