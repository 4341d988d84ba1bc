package volume

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// A hold is that a plugin has mounted a volume for a container, or was asked to.
// It is on disk, as D/volumes/NAME/mounts/ID with the mountpoint, before the
// plugin is asked and until it has unmounted: a plugin is told of each end of
// use, also where the engine was killed, or the machine went, meanwhile. Where a
// plugin cannot be told it is owed, and tried again until it can.
type hold struct {
	point string
	ours  bool // this process has mounted it, and has not let go
	owed  bool
}

const (
	holdsDir  = "mounts"
	firstTry  = time.Second
	latestTry = time.Minute
)

// readHolds finds what an earlier daemon left.
func (s *Store) readHolds(name string) error {
	entries, err := os.ReadDir(s.path(name, holdsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // was being written
		}
		point, err := os.ReadFile(s.path(name, holdsDir, e.Name()))
		if err != nil {
			return err
		}
		s.setHold(name, moss.ContainerID(e.Name()), &hold{point: string(point)})
	}
	return nil
}

func (s *Store) setHold(name string, id moss.ContainerID, h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds[name] == nil {
		s.holds[name] = make(map[moss.ContainerID]*hold)
	}
	s.holds[name][id] = h
}

func (s *Store) getHold(name string, id moss.ContainerID) (hold, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds[name][id]
	if h == nil {
		return hold{}, false
	}
	return *h, true
}

func (s *Store) holders(name string) []moss.ContainerID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.holds[name]))
}

// point is where a volume is mounted for a container.
func (s *Store) point(name string, id moss.ContainerID) string {
	h, _ := s.getHold(name, id)
	return h.point
}

// writeHold puts a hold on the disk, for good when it returns.
func (s *Store) writeHold(name string, id moss.ContainerID, point string) error {
	dir := s.path(name, holdsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := filepath.Join(dir, "."+string(id))
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(point)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, string(id))); err != nil {
		return err
	}
	return syncDir(dir)
}

// dropHold takes a hold off the disk.
func (s *Store) dropHold(name string, id moss.ContainerID) error {
	s.mu.Lock()
	delete(s.holds[name], id)
	s.mu.Unlock()
	err := os.Remove(s.path(name, holdsDir, string(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// hold has the plugin mount a volume for a container. One that this process has
// mounted for it is so still. The caller has the volume's turn.
func (s *Store) hold(ctx context.Context, v moss.Volume, id moss.ContainerID) error {
	switch h, ok := s.getHold(v.Name, id); {
	case ok && h.ours:
		return nil
	case ok: // of a use that has ended and was not told to the plugin
		_, err := s.call(ctx, v.Driver, "Unmount", request{Name: v.Name, ID: string(id)}, shortCall, mountPatience)
		if !reached(err) {
			s.owe(v.Name, id)
			return moss.Errorf(moss.ClassOf(err), "error while mounting volume '%s': %w", v.Name, err)
		}
	}
	if err := s.writeHold(v.Name, id, ""); err != nil {
		return moss.Wrap(err, "note the use of the volume", v.Name)
	}
	s.setHold(v.Name, id, new(hold))
	out, err := s.call(ctx, v.Driver, "Mount", request{Name: v.Name, ID: string(id)}, longCall, mountPatience)
	if err != nil {
		failed := moss.Errorf(moss.ClassOf(err), "error while mounting volume '%s': %w", v.Name, err)
		if moss.ClassOf(err) == moss.Unavailable { // it may have got that far
			s.owe(v.Name, id)
			return failed
		}
		return errors.Join(failed, s.dropHold(v.Name, id))
	}
	if err := visible(ctx, v, out.Mountpoint); err != nil {
		return errors.Join(err, s.letGo(ctx, v, id))
	}
	if err := s.writeHold(v.Name, id, out.Mountpoint); err != nil {
		return errors.Join(moss.Wrap(err, "note the use of the volume", v.Name), s.letGo(ctx, v, id))
	}
	s.setHold(v.Name, id, &hold{point: out.Mountpoint, ours: true})
	v.Path = out.Mountpoint
	s.set(v)
	return nil
}

// visible says whether the engine, and so its containers, can see a mountpoint. A
// plugin's file system may hang, too.
func visible(ctx context.Context, v moss.Volume, point string) error {
	if !filepath.IsAbs(point) {
		return moss.Errorf(moss.Unavailable, "error while mounting volume '%s': plugin %q tells a mountpoint that is no absolute path: %q", v.Name, v.Driver, point)
	}
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	seen := make(chan error, 1)
	go func() {
		_, err := os.Stat(point)
		seen <- err
	}()
	var err error
	select {
	case err = <-seen:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return moss.Errorf(moss.Unavailable, "error while mounting volume '%s': the mountpoint of plugin %q cannot be seen in moss's namespaces: %w", v.Name, v.Driver, err)
	}
	return nil
}

// letGo has the plugin unmount a volume for a container. A plugin that cannot be
// reached owes it; one that refuses has had its say. The caller has the volume's turn.
func (s *Store) letGo(ctx context.Context, v moss.Volume, id moss.ContainerID) error {
	if _, ok := s.getHold(v.Name, id); !ok {
		return nil
	}
	_, err := s.call(ctx, v.Driver, "Unmount", request{Name: v.Name, ID: string(id)}, shortCall, 0)
	if !reached(err) {
		s.o.Log.Warn("a volume plugin could not be told that a container's use of a volume has ended; it is tried again", "plugin", v.Driver, "volume", v.Name, "container", id.Short(), "error", err)
		s.owe(v.Name, id)
		return nil
	}
	if err != nil {
		s.o.Log.Warn("a volume plugin could not unmount", "plugin", v.Driver, "volume", v.Name, "container", id.Short(), "error", err)
	}
	return moss.Wrap(s.dropHold(v.Name, id), "note the end of the use of the volume", v.Name)
}

// Settle is told which containers run, once, before any is started: what others
// hold is let go of, behind.
func (s *Store) Settle(runs func(moss.ContainerID) bool) {
	s.mu.Lock()
	var left [][2]string
	for name, ids := range s.holds {
		for id, h := range ids {
			if !h.ours && !runs(id) {
				left = append(left, [2]string{name, string(id)})
			}
		}
	}
	s.mu.Unlock()
	for _, l := range left {
		s.owe(l[0], moss.ContainerID(l[1]))
	}
}

// owe marks a hold that the plugin is to be told the end of.
func (s *Store) owe(name string, id moss.ContainerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds[name][id]
	if h == nil {
		return
	}
	h.owed, h.ours = true, false
	if !s.paying && s.life.Err() == nil {
		s.paying = true
		s.sweeping.Go(s.pay)
	}
}

// wake lets what is owed be tried at once: a plugin has answered.
func (s *Store) wake(string) {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// owed are the volumes with holds that are owed.
func (s *Store) owed() map[string][]moss.ContainerID {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string][]moss.ContainerID)
	for name, ids := range s.holds {
		for id, h := range ids {
			if h.owed {
				all[name] = append(all[name], id)
			}
		}
	}
	if len(all) == 0 {
		s.paying = false
	}
	return all
}

// pay tells plugins what they are owed, again and again.
func (s *Store) pay() {
	for wait := firstTry; ; wait = min(2*wait, latestTry) {
		all := s.owed()
		if len(all) == 0 {
			return
		}
		dead := make(map[string]bool)
		for name, ids := range all {
			for _, id := range ids {
				s.payOne(name, id, dead)
			}
		}
		if len(s.owed()) == 0 {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.woken:
			t.Stop()
		case <-s.life.Done():
			t.Stop()
			return
		}
	}
}

func (s *Store) payOne(name string, id moss.ContainerID, dead map[string]bool) {
	v, err := s.Get(name)
	if err != nil || dead[v.Driver] {
		return
	}
	done, err := s.begin(s.life, name)
	if err != nil {
		return
	}
	defer done()
	if h, ok := s.getHold(name, id); !ok || !h.owed {
		return
	}
	_, err = s.call(s.life, v.Driver, "Unmount", request{Name: name, ID: string(id)}, shortCall, 0)
	if !reached(err) {
		dead[v.Driver] = true
		return
	}
	if err := s.dropHold(name, id); err != nil {
		s.o.Log.Error("the end of the use of a volume could not be noted", "volume", name, "error", err)
	}
}
