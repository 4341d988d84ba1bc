package filter

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"github.com/opencontainers/runc/libcontainer"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// give is Give, and where an init would find it.
func give(t *testing.T, e *Entry) *os.File {
	t.Helper()
	lp := &libcontainer.Process{ExtraFiles: []*os.File{os.Stdin}}
	f, err := Give(lp, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if len(lp.ExtraFiles) != 2 || lp.ExtraFiles[1] != f {
		t.Errorf("extra files %v", lp.ExtraFiles)
	}
	// As it is in the child: not closed by an exec, and before the pipe.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	t.Setenv("_LIBCONTAINER_INITPIPE", strconv.Itoa(int(f.Fd())+1))
	t.Cleanup(func() { libseccomp.SetSource(nil) })
	return f
}

// exported is what libcontainer would get of a filter.
func exported(t *testing.T, f *libseccomp.ScmpFilter) []byte {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := f.ExportBPF(w); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, maxProgram)
	n, err := r.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func aFilter(t *testing.T, call libseccomp.ScmpSyscall) (*libseccomp.ScmpFilter, libseccomp.Key, []byte) {
	t.Helper()
	f, err := libseccomp.NewFilter(libseccomp.ActAllow)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.AddRule(call, libseccomp.ActLog); err != nil {
		t.Fatal(err)
	}
	key, err := f.Key()
	if err != nil {
		t.Fatal(err)
	}
	program, err := f.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return f, key, program
}

func TestTake(t *testing.T) {
	f, key, program := aFilter(t, 1)
	other, _, itsProgram := aFilter(t, 2)
	mark := []byte("12345678") // no compilation's result
	file := give(t, &Entry{key, mark})
	Take()
	if got := exported(t, f); !bytes.Equal(got, mark) {
		t.Errorf("the program is %q, not the given one", got)
	}
	if got := exported(t, other); !bytes.Equal(got, itsProgram) {
		t.Error("another filter's program is not its own")
	}
	if flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("an exec does not close it: flags %x, %v", flags, err)
	}
	libseccomp.SetSource(nil)
	if got := exported(t, f); !bytes.Equal(got, program) {
		t.Error("without a source it is not compiled")
	}
}

func TestTakeNothing(t *testing.T) {
	f, key, program := aFilter(t, 1)
	mark := []byte("12345678")
	check := func(t *testing.T, file *os.File, ours bool) {
		t.Helper()
		Take()
		if got := exported(t, f); !bytes.Equal(got, program) {
			t.Errorf("the program is %q, not the filter's", got)
		}
		flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 != ours {
			t.Errorf("descriptor flags %x, %v", flags, err)
		}
	}
	t.Run("no profile", func(t *testing.T) { check(t, give(t, nil), true) })
	t.Run("not the one before the pipe", func(t *testing.T) {
		file := give(t, &Entry{key, mark})
		t.Setenv("_LIBCONTAINER_INITPIPE", strconv.Itoa(int(file.Fd())+1000))
		check(t, file, false)
	})
	t.Run("before the console", func(t *testing.T) {
		file := give(t, &Entry{key, mark})
		t.Setenv("_LIBCONTAINER_CONSOLE", strconv.Itoa(int(file.Fd())+1000))
		check(t, file, false)
	})
	t.Run("not sealed", func(t *testing.T) {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		give(t, nil)
		if _, err := file.Write((&Entry{key, mark}).encode()); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(file.Fd(), unix.F_SETFD, 0); err != nil {
			t.Fatal(err)
		}
		t.Setenv("_LIBCONTAINER_INITPIPE", strconv.Itoa(int(file.Fd())+1))
		check(t, file, false)
	})
}

// Whoever gets hold of the file can change nothing.
func TestSealed(t *testing.T) {
	file := give(t, &Entry{libseccomp.Key{}, []byte("12345678")})
	again, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(file.Fd())), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.WriteAt([]byte("x"), 0); err == nil {
		t.Error("written")
	}
	if err := again.Truncate(0); err == nil {
		t.Error("cut")
	}
}
