package storage

import (
	"context"
	"os"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// leaving are the file systems that are mounted nowhere any more and not gone
// yet: with overlay's last file the kernel syncs all of the file system below,
// whoever has written there (syncfs(2)). The end of a container does not wait for
// that, its next mount does: overlay wants a layer for itself.
type leaving struct {
	mu   sync.Mutex
	wg   sync.WaitGroup
	gone map[moss.ContainerID]chan struct{}
}

// add closes the last file of a container's file system; nil for none.
func (l *leaving) add(id moss.ContainerID, last *os.File) {
	if last == nil {
		return
	}
	gone := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone == nil {
		l.gone = map[moss.ContainerID]chan struct{}{}
	}
	before := l.gone[id]
	l.gone[id] = gone
	l.wg.Go(func() {
		_ = last.Close() // nothing was written by it
		if before != nil {
			<-before
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.gone[id] == gone {
			delete(l.gone, id)
		}
		close(gone)
	})
}

// wait returns when what a container had mounted is gone.
func (l *leaving) wait(ctx context.Context, id moss.ContainerID) error {
	l.mu.Lock()
	gone := l.gone[id]
	l.mu.Unlock()
	if gone == nil {
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
