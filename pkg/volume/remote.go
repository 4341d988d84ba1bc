package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Plugins calls volume drivers that are servers of their own (pkg/plugins).
type Plugins interface {
	Call(ctx context.Context, c moss.PluginCall) error
	// Having names the plugins of a kind, and says of those that cannot tell why.
	Having(ctx context.Context, kind string) (names []string, dead map[string]error)
}

const (
	longCall  = time.Minute      // what makes or mounts something
	shortCall = 10 * time.Second // what only tells or lets go: others wait for it
	// mountPatience is how long a container's start waits for a plugin that is not
	// there yet, as after a boot.
	mountPatience = 15 * time.Second
)

// remote says that a volume is a plugin's.
func remote(v moss.Volume) bool { return v.Driver != moss.LocalDriver }

// answer is what all methods may say.
type answer struct {
	Err        string
	Mountpoint string
	Volume     *told
	Volumes    []*told

	Capabilities struct{ Scope string }
}

// told is a volume in a plugin's words.
type told struct {
	Name       string
	Mountpoint string
	CreatedAt  string
	Status     map[string]any
}

type request struct {
	Name string            `json:",omitempty"`
	ID   string            `json:",omitempty"`
	Opts map[string]string `json:",omitempty"`
}

// said is an error in a plugin's own words: it was reached, and refused.
type said struct{ text string }

func (e said) Error() string { return e.text }

// reached says that a call has come to its end in the plugin, well or not.
func reached(err error) bool {
	return err == nil || moss.ClassOf(err) == moss.Internal || moss.ClassOf(err) == moss.NotImplemented
}

func (s *Store) call(ctx context.Context, driver, method string, in request, timeout, patience time.Duration) (answer, error) {
	var out answer
	if s.o.Plugins == nil {
		return out, moss.Errorf(moss.NotFound, "error looking up volume plugin %s: plugin %q not found", driver, driver)
	}
	err := s.o.Plugins.Call(ctx, moss.PluginCall{
		Plugin: driver, Kind: moss.VolumePlugin, Method: "VolumeDriver." + method, In: in, Out: &out, Timeout: timeout, Patience: patience,
	})
	if err != nil && moss.ClassOf(err) == moss.NotFound {
		err = moss.Errorf(moss.NotFound, "error looking up volume plugin %s: %w", driver, err)
	}
	if err == nil && out.Err != "" {
		err = moss.Errorf(moss.Internal, "%w", said{out.Err})
	}
	if reached(err) {
		s.wake(driver)
	}
	return out, err
}

// having names the volume plugins, and what is wrong with those that cannot tell.
func (s *Store) having(ctx context.Context) ([]string, map[string]error) {
	if s.o.Plugins == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	return s.o.Plugins.Having(ctx, moss.VolumePlugin)
}

// ask lets the driver tell of a volume.
func (s *Store) ask(ctx context.Context, v moss.Volume) (moss.Volume, error) {
	out, err := s.call(ctx, v.Driver, "Get", request{Name: v.Name}, shortCall, 0)
	if err != nil {
		return v, err
	}
	if out.Volume == nil {
		return v, moss.Errorf(moss.Internal, "%w", said{"no such volume"})
	}
	if out.Volume.Mountpoint == "" {
		if p, err := s.call(ctx, v.Driver, "Path", request{Name: v.Name}, shortCall, 0); err == nil {
			out.Volume.Mountpoint = p.Mountpoint // a driver need not have one before it mounts
		}
	}
	out.Volume.into(&v)
	return v, nil
}

func (t *told) into(v *moss.Volume) {
	v.Path, v.Status = t.Mountpoint, t.Status
	if at, err := time.Parse(time.RFC3339, t.CreatedAt); err == nil {
		v.Created = at
	}
}

// scope is that of a driver's volumes; not to know is no error.
func (s *Store) scope(ctx context.Context, driver string) string {
	out, err := s.call(ctx, driver, "Capabilities", request{}, shortCall, 0)
	scope := strings.ToLower(out.Capabilities.Scope)
	if err != nil || scope == "" {
		return "local"
	}
	if scope != "local" && scope != "global" {
		s.o.Log.Warn("a volume plugin tells a scope that is none", "plugin", driver, "scope", scope)
		return "local"
	}
	return scope
}

// createRemote makes a volume of a plugin's, or takes one over that the plugin has
// already. The caller has the volume's turn.
func (s *Store) createRemote(ctx context.Context, v moss.Volume) (_ moss.Volume, created bool, err error) {
	asked, err := s.ask(ctx, v)
	if err == nil {
		return s.keep(ctx, asked)
	}
	if reached(err) {
		_, err = s.call(ctx, v.Driver, "Create", request{Name: v.Name, Opts: v.Options}, longCall, 0)
	}
	if err != nil {
		return v, false, moss.Errorf(moss.ClassOf(err), "create %s: %w", v.Name, err)
	}
	if asked, err := s.ask(ctx, v); err == nil { // older plugins cannot be asked
		v = asked
	}
	v, _, err = s.keep(ctx, v)
	return v, err == nil, err
}

// keep notes that a plugin has a volume.
func (s *Store) keep(ctx context.Context, v moss.Volume) (moss.Volume, bool, error) {
	v.Scope = s.scope(ctx, v.Driver)
	if err := s.write(v); err != nil {
		return v, false, moss.Wrap(err, "keep the record of the volume", v.Name)
	}
	s.set(v)
	return v, false, nil
}

func (s *Store) set(v moss.Volume) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.Status = nil // it is told anew each time
	s.all[v.Name] = v
}

// confirm sees to it that a plugin still has a volume that it had.
func (s *Store) confirm(ctx context.Context, v moss.Volume) (moss.Volume, error) {
	asked, err := s.ask(ctx, v)
	if err != nil && reached(err) {
		if _, err = s.call(ctx, v.Driver, "Create", request{Name: v.Name, Opts: v.Options}, longCall, 0); err == nil {
			asked, err = s.ask(ctx, v)
		}
	}
	if err != nil {
		return v, moss.Errorf(moss.ClassOf(err), "create %s: %w", v.Name, err)
	}
	s.set(asked)
	return asked, nil
}

// search asks all plugins for a volume of a name.
func (s *Store) search(ctx context.Context, name string) (moss.Volume, bool) {
	drivers, _ := s.having(ctx)
	var (
		wg    sync.WaitGroup
		found = make([]*moss.Volume, len(drivers))
	)
	for i, driver := range drivers {
		wg.Go(func() {
			if v, err := s.ask(ctx, moss.Volume{Name: name, Driver: driver}); err == nil {
				found[i] = &v
			}
		})
	}
	wg.Wait()
	for _, v := range found {
		if v != nil {
			v.Scope = s.scope(ctx, v.Driver)
			return *v, true
		}
	}
	return moss.Volume{}, false
}

// Look returns a volume as its driver tells it now, also one that only a driver
// knows. Errors: NotFound; Unavailable where the driver does not answer.
func (s *Store) Look(ctx context.Context, name string) (moss.Volume, error) {
	v, err := s.Get(name)
	switch {
	case err != nil:
		if found, ok := s.search(ctx, name); ok {
			return found, nil
		}
		return v, err
	case !remote(v):
		return v, nil
	}
	v, err = s.ask(ctx, v)
	if err != nil {
		return v, moss.Errorf(moss.ClassOf(err), "get %s: %w", name, err)
	}
	return v, nil
}

// Adopt makes a volume that only a driver knows one of the engine's. Errors: NotFound.
func (s *Store) Adopt(ctx context.Context, name string) (moss.Volume, error) {
	if err := checkName(name); err != nil {
		return moss.Volume{}, moss.Errorf(moss.NotFound, "get %s: no such volume", name)
	}
	done, err := s.begin(ctx, name)
	if err != nil {
		return moss.Volume{}, err
	}
	defer done()
	if v, err := s.Get(name); err == nil {
		return v, nil
	}
	v, ok := s.search(ctx, name)
	if !ok {
		return v, moss.Errorf(moss.NotFound, "get %s: no such volume", name)
	}
	v, _, err = s.keep(ctx, v)
	return v, err
}

// Listed are all volumes by name: those of plugins as these tell them now. Of
// plugins that cannot be asked, the known volumes are listed, with a warning.
func (s *Store) Listed(ctx context.Context) ([]moss.Volume, []string) {
	drivers, dead := s.having(ctx)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		lists = make(map[string][]*told)
		scope = make(map[string]string)
		warns []string
	)
	for _, driver := range drivers {
		wg.Go(func() {
			out, err := s.call(ctx, driver, "List", request{}, shortCall, 0)
			var sc string
			if err == nil {
				sc = s.scope(ctx, driver)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				warns = append(warns, fmt.Sprintf("list %s: %v", driver, err))
				return
			}
			lists[driver], scope[driver] = out.Volumes, sc
		})
	}
	wg.Wait()
	all := make(map[string]moss.Volume)
	used := make(map[string]bool)
	for _, v := range s.List() {
		used[v.Driver] = true
		if _, told := lists[v.Driver]; !told {
			all[v.Name] = v
		}
	}
	for _, driver := range slices.Sorted(maps.Keys(lists)) {
		for _, t := range lists[driver] {
			v, err := s.Get(t.nameOr())
			if err != nil {
				v = moss.Volume{Name: t.nameOr(), Driver: driver, Scope: scope[driver]}
			}
			if _, taken := all[v.Name]; taken || v.Name == "" || v.Driver != driver {
				continue // another driver's, which had it before
			}
			t.into(&v)
			all[v.Name] = v
		}
	}
	for driver, err := range dead {
		if used[driver] || errors.Is(err, context.DeadlineExceeded) {
			warns = append(warns, fmt.Sprintf("list %s: %v", driver, err))
		}
		delete(used, driver)
	}
	for driver := range used {
		if driver != moss.LocalDriver && !slices.Contains(drivers, driver) {
			warns = append(warns, fmt.Sprintf("list %s: plugin %q not found", driver, driver))
		}
	}
	slices.Sort(warns)
	return slices.SortedFunc(maps.Values(all), func(a, b moss.Volume) int { return cmp.Compare(a.Name, b.Name) }), warns
}

// nameOr is the name, also of a null in a plugin's list.
func (t *told) nameOr() string {
	if t == nil {
		return ""
	}
	return t.Name
}

// removeRemote has the plugin remove a volume. The caller has the volume's turn.
func (s *Store) removeRemote(ctx context.Context, v moss.Volume) error {
	for _, id := range s.holders(v.Name) {
		if err := s.letGo(ctx, v, id); err != nil {
			return err
		}
	}
	if _, err := s.call(ctx, v.Driver, "Remove", request{Name: v.Name}, longCall, 0); err != nil {
		return moss.Errorf(moss.ClassOf(err), "remove %s: %w", v.Name, err)
	}
	return nil
}

// Forget takes a volume off the engine's list, whatever its driver has. Errors: NotFound.
func (s *Store) Forget(ctx context.Context, name string) error {
	done, err := s.begin(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if v, err := s.Get(name); err != nil || !remote(v) {
		return err
	}
	return s.discard(name)
}

// fillRemote copies into what a plugin mounts for the time being.
func (s *Store) fillRemote(ctx context.Context, v moss.Volume, src *os.File) (err error) {
	id := moss.ContainerID(moss.NewHexID()) // each use has its own, as with docker
	if err := s.hold(ctx, v, id); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.letGo(context.WithoutCancel(ctx), v, id)) }()
	point := s.point(v.Name, id)
	temp := filepath.Join(point, ".moss"+fillNew)
	if err := os.RemoveAll(temp); err != nil { // of a copy that was cut short
		return moss.Wrap(err, "fill the volume", v.Name)
	}
	if empty, err := isEmpty(point); err != nil || !empty {
		return moss.Wrap(err, "look into the volume", v.Name)
	}
	if err := copyTree(ctx, src, temp); err != nil {
		return moss.Wrap(errors.Join(err, os.RemoveAll(temp)), "fill the volume", v.Name)
	}
	entries, err := os.ReadDir(temp)
	if err != nil {
		return moss.Wrap(err, "fill the volume", v.Name)
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(temp, e.Name()), filepath.Join(point, e.Name())); err != nil {
			return moss.Wrap(err, "fill the volume", v.Name)
		}
	}
	return moss.Wrap(os.Remove(temp), "fill the volume", v.Name)
}
