package holder

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A signal that comes before moss-gvisor has the process's place is an orderly end:
// the other program would know nothing of it.
func TestAskedBeforeGvisor(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // moss-gvisor is nowhere: who goes for it gets an error
	become := func(ctx context.Context, before func()) error {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, unix.SIGTERM)
		defer signal.Stop(signals)
		before()
		return becomeGvisor(ctx, signals)
	}
	if err := become(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), "cannot find moss-gvisor") {
		t.Fatalf("asked for nothing: %v", err)
	}
	for range 100 {
		err := become(t.Context(), func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGTERM); err != nil { // has come when it returns
				t.Fatal(err)
			}
		})
		if err != nil {
			t.Fatalf("asked to end by a signal: %v", err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := become(ended, func() {}); err != nil {
		t.Errorf("asked to end by the context: %v", err)
	}
}
