package records

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// A second daemon on the same records says whose they are.
func TestSecondDaemon(t *testing.T) {
	dir := t.TempDir()
	durable := filepath.Join(dir, "moss.db")
	s, err := Open(durable, filepath.Join(dir, "run.db"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(durable, filepath.Join(dir, "run2.db"))
	if err == nil {
		t.Fatal(second.Close())
	}
	want := fmt.Sprintf("another mossd (pid %d, %s", os.Getpid(), os.Args[0])
	if moss.ClassOf(err) != moss.Unavailable || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "data-root of its own") {
		t.Errorf("%s: %v", moss.ClassOf(err), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLockedBy(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 1 fe:00:7 0 EOF
2: FLOCK  ADVISORY  WRITE 28488 fe:00:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 5 fe:00:7 0 EOF
3: FLOCK  ADVISORY  WRITE 42 00:4c:7 0 EOF
`
	if pid, ok := lockedBy(locks, 7); !ok || pid != 42 {
		t.Error(pid, ok)
	}
	if pid, ok := lockedBy(locks, 8); ok {
		t.Error(pid)
	}
}
