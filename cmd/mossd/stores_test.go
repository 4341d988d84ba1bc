package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/image"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/storage"
)

// Stores that are opened late are waited for by whoever needs them, and what is
// to be done first comes before; what stands still is unmounted without them.
func TestLateStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, opens, opening := t.TempDir(), 0, make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		s := newStores(ctx, storage.Options{GraphRoot: dir + "/graph", RunRoot: dir + "/run"}, image.Options{}, newSteps(time.Now()), &descriptors{log: slog.New(slog.DiscardHandler)})
		s.late = true
		s.make = func(ctx context.Context) (*storage.Storage, *image.Store, error) {
			opens++
			select {
			case <-opening:
				return nil, nil, errors.New("cannot be opened")
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		rootfs, images := lateRootfs{s}, lateImages{s}
		rootfs.WhenOpen(func(context.Context, engine.Rootfs) { t.Error("it is not open") })
		if err := rootfs.Unmount(t.Context(), "a"); err != nil || opens != 0 || s.busy() {
			t.Error("it was opened for what is not mounted:", err, opens)
		}
		brief, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { _, err := images.List(brief); gone <- err }()
		waits := make(chan error, 2)
		go func() { _, err := images.Resolve(t.Context(), "x"); waits <- err }()
		go func() { waits <- rootfs.Create(t.Context(), "a", "b") }()
		synctest.Wait()
		cancel() // who waits no longer leaves it to the others
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(opening)
		for range 2 {
			if err := <-waits; err == nil || err.Error() != "cannot be opened" {
				t.Error(err)
			}
		}
		if opens != 1 {
			t.Errorf("opened %d times", opens)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		stop()
	})
}

// With the start over before they were needed, they are as they were left.
func TestStoresNotNeeded(t *testing.T) {
	s := newStores(t.Context(), storage.Options{GraphRoot: t.TempDir(), RunRoot: t.TempDir()}, image.Options{}, newSteps(time.Now()), &descriptors{log: slog.New(slog.DiscardHandler)})
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := (lateRootfs{s}).List(t.Context()); err == nil || moss.ClassOf(err) != moss.Unavailable {
		t.Error("they are closed:", err)
	}
}

// What a start has to do with the store comes before what anybody else asks of it.
func TestFirstInStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores(t.Context(), storage.Options{}, image.Options{}, newSteps(time.Now()), &descriptors{log: slog.New(slog.DiscardHandler)})
		s.make = func(context.Context) (*storage.Storage, *image.Store, error) { return nil, nil, nil }
		slow, done := make(chan struct{}), false
		lateRootfs{s}.WhenOpen(func(context.Context, engine.Rootfs) { <-slow; done = true })
		asked := make(chan bool)
		go func() { err := s.await(t.Context()); asked <- done && err == nil }()
		synctest.Wait()
		close(slow)
		if !<-asked {
			t.Error("who needs it came first")
		}
		late := false
		lateRootfs{s}.WhenOpen(func(context.Context, engine.Rootfs) { late = true })
		if !late {
			t.Error("it is open: at once")
		}
	})
}

// Without files to open, no work of the store is begun; what is in memory is told, the watchdog's question too.
func TestStoresWithoutFiles(t *testing.T) {
	s := newStores(t.Context(), storage.Options{}, image.Options{}, newSteps(time.Now()), &descriptors{log: slog.New(slog.DiscardHandler)})
	s.make = func(context.Context) (*storage.Storage, *image.Store, error) { return nil, nil, nil }
	if err := s.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	low := was
	low.Cur = uint64(s.files.used() + 20)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) }() // as it was
	if err := s.await(t.Context()); err != nil {
		t.Error(err)
	}
	if err := (lateRootfs{s}).Create(t.Context(), "a", "b"); moss.ClassOf(err) != moss.Unavailable {
		t.Error(err)
	}
}
