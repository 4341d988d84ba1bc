package volume_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/volume"
)

// far is a plugin "far" with volumes in a directory.
type far struct {
	dir string

	mu      sync.Mutex
	volumes map[string]map[string]string // options by name
	users   map[string][]string          // ids by name
	dead    bool
	lie     string // a mountpoint that is none
	calls   []string
	told    chan string // of each unmount
}

func newFar(t *testing.T) *far {
	return &far{dir: t.TempDir(), volumes: make(map[string]map[string]string), users: make(map[string][]string), told: make(chan string, 100)}
}

func (f *far) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

func (f *far) Having(context.Context, string) ([]string, map[string]error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, map[string]error{"far": moss.Errorf(moss.Unavailable, "it is dead")}
	}
	return []string{"far"}, nil
}

func (f *far) Call(_ context.Context, c moss.PluginCall) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Plugin != "far" {
		return moss.Errorf(moss.NotFound, "plugin %q not found", c.Plugin)
	}
	if f.dead {
		return moss.Errorf(moss.Unavailable, "plugin %q does not answer", c.Plugin)
	}
	var in struct {
		Name, ID string
		Opts     map[string]string
	}
	text, err := json.Marshal(c.In)
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	if err != nil {
		return err
	}
	method := strings.TrimPrefix(c.Method, "VolumeDriver.")
	f.calls = append(f.calls, strings.TrimSpace(method+" "+in.Name))
	text, err = json.Marshal(f.answer(method, in.Name, in.ID, in.Opts))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, c.Out)
}

func (f *far) answer(method, name, id string, opts map[string]string) map[string]any {
	describe := func(name string) map[string]any {
		return map[string]any{"Name": name, "Mountpoint": filepath.Join(f.dir, name), "CreatedAt": "2020-01-02T03:04:05Z", "Status": map[string]any{"users": len(f.users[name])}}
	}
	_, there := f.volumes[name]
	if name != "" && !there && method != "Create" {
		return map[string]any{"Err": "far has no " + name}
	}
	switch method {
	case "Create":
		if opts["size"] == "huge" {
			return map[string]any{"Err": "no room"}
		}
		f.volumes[name] = opts
		return map[string]any{"Err": fmt.Sprint(os.Mkdir(filepath.Join(f.dir, name), 0o755))[:0]}
	case "Get":
		return map[string]any{"Volume": describe(name)}
	case "List":
		list := []any{nil}
		for name := range f.volumes {
			list = append(list, describe(name))
		}
		return map[string]any{"Volumes": list}
	case "Remove":
		if len(f.users[name]) > 0 {
			return map[string]any{"Err": "far is still using " + name}
		}
		delete(f.volumes, name)
	case "Mount":
		f.users[name] = append(f.users[name], id)
		if f.lie != "" {
			return map[string]any{"Mountpoint": f.lie}
		}
		return map[string]any{"Mountpoint": filepath.Join(f.dir, name)}
	case "Unmount":
		f.users[name] = slices.DeleteFunc(f.users[name], func(u string) bool { return u == id })
		f.told <- name + " " + id
	case "Capabilities":
		return map[string]any{"Capabilities": map[string]any{"Scope": "Global"}}
	}
	return map[string]any{}
}

func (f *far) using(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.users[name])
}

// openFar opens a store without closing the one before, as after a kill -9.
func openFar(t *testing.T, dir string, f *far) *volume.Store {
	t.Helper()
	s, err := volume.Open(volume.Options{Dir: filepath.Join(dir, "volumes"), RunDir: filepath.Join(dir, "run"), Plugins: f, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func createFar(t *testing.T, s *volume.Store, name string) moss.Volume {
	t.Helper()
	v, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: name, Driver: "far", Options: map[string]string{"a": "b"}, Labels: map[string]string{"who": "me"}})
	must(t, err)
	return v
}

func TestRemoteLife(t *testing.T) {
	f, dir := newFar(t), t.TempDir()
	s := openFar(t, dir, f)
	v := createFar(t, s, "data")
	if v.Driver != "far" || v.Scope != "global" || v.Path != filepath.Join(f.dir, "data") || v.Labels["who"] != "me" || v.Created.Year() != 2020 || !maps.Equal(f.volumes["data"], map[string]string{"a": "b"}) {
		t.Errorf("%+v", v)
	}
	s = openFar(t, dir, f)
	if v, created, err := s.Create(t.Context(), moss.VolumeRequest{Name: "data"}); err != nil || created || v.Driver != "far" || v.Labels["who"] != "me" {
		t.Errorf("created again: %+v %v %v", v, created, err)
	}
	if v, err := s.Look(t.Context(), "data"); err != nil || fmt.Sprint(v.Status["users"]) != "0" || v.Scope != "global" {
		t.Errorf("look: %+v %v", v, err)
	}
	for want, r := range map[string]moss.VolumeRequest{
		"driver 'far' already has volume 'data': volume name must be unique": {Name: "data", Driver: "local"},
		"create big: no room": {Name: "big", Driver: "far", Options: map[string]string{"size": "huge"}},
		`create x1: error looking up volume plugin near: plugin "near" not found`: {Name: "x1", Driver: "near"},
	} {
		if _, _, err := s.Create(t.Context(), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}

	// what only the plugin knows
	f.set(func() { f.volumes["theirs"] = nil })
	all, warnings := s.Listed(t.Context())
	if len(all) != 2 || all[1].Name != "theirs" || all[1].Scope != "global" || len(warnings) > 0 {
		t.Errorf("%+v %v", all, warnings)
	}
	if v, err := s.Look(t.Context(), "theirs"); err != nil || v.Driver != "far" {
		t.Errorf("%+v %v", v, err)
	}
	if v, created, err := s.Create(t.Context(), moss.VolumeRequest{Name: "theirs"}); err != nil || created || v.Driver != "far" {
		t.Errorf("%+v %v %v", v, created, err)
	}
	if _, err := s.Adopt(t.Context(), "nosuch"); err == nil || moss.ClassOf(err) != moss.NotFound {
		t.Error(err)
	}

	must(t, s.Remove(t.Context(), "data"))
	if _, ok := f.volumes["data"]; ok {
		t.Error("the plugin has it still")
	}
	f.set(func() { delete(f.volumes, "theirs") })
	if err := s.Remove(t.Context(), "theirs"); err == nil || !strings.Contains(err.Error(), "far has no theirs") {
		t.Error(err)
	}
	must(t, s.Forget(t.Context(), "theirs"))
	if _, err := openFar(t, dir, f).Get("theirs"); err == nil {
		t.Error("it is not forgotten")
	}
}

// TestRemoteHolds has each end of use told to the plugin, whatever happens meanwhile.
func TestRemoteHolds(t *testing.T) {
	f, dir := newFar(t), t.TempDir()
	s := openFar(t, dir, f)
	v := createFar(t, s, "data")
	const one, two, three = moss.ContainerID("c1"), moss.ContainerID("c2"), moss.ContainerID("c3")
	for range 2 { // who has it has it once
		must(t, s.Mount(t.Context(), "data", one))
	}
	must(t, s.Mount(t.Context(), "data", two))
	must(t, s.Mount(t.Context(), "data", three))
	points, err := s.Expose(t.Context(), one, []moss.MountPoint{{Type: moss.MountVolume, Name: "data", Target: "/d"}})
	if err != nil || points[0].Source != v.Path || points[0].Type != moss.MountBind {
		t.Errorf("%+v %v", points, err)
	}
	if u := f.using("data"); !slices.Equal(u, []string{"c1", "c2", "c3"}) {
		t.Errorf("%v", u)
	}

	s = openFar(t, dir, f)
	must(t, s.Unmount(t.Context(), "data", one))
	must(t, s.Unmount(t.Context(), "data", one))
	s.Settle(func(id moss.ContainerID) bool { return id == two })
	if got := []string{<-f.told, <-f.told}; got[0] != "data c1" || got[1] != "data c3" {
		t.Errorf("%v", got)
	}
	if u := f.using("data"); !slices.Equal(u, []string{"c2"}) {
		t.Errorf("%v", u)
	}

	// a use that was not ended properly is, before the next begins
	must(t, s.Close()) // what is told behind is noted, too
	s = openFar(t, dir, f)
	must(t, s.Mount(t.Context(), "data", two))
	if got := <-f.told; got != "data c2" {
		t.Error(got)
	}
	must(t, s.Unmount(t.Context(), "data", two))
	<-f.told
	if left, err := os.ReadDir(filepath.Join(dir, "volumes/data/mounts")); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

// TestRemoteDead has a plugin that dies and comes back.
func TestRemoteDead(t *testing.T) {
	f, dir := newFar(t), t.TempDir()
	s := openFar(t, dir, f)
	createFar(t, s, "data")
	must(t, s.Mount(t.Context(), "data", "c1"))
	f.set(func() { f.dead = true })
	must(t, s.Unmount(t.Context(), "data", "c1"))
	if err := s.Mount(t.Context(), "data", "c2"); err == nil || moss.ClassOf(err) != moss.Unavailable || !strings.Contains(err.Error(), "error while mounting volume 'data'") {
		t.Error(err)
	}
	if _, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: "other"}); err != nil {
		t.Errorf("a volume that is none of the plugin's: %v", err)
	}
	all, warnings := s.Listed(t.Context())
	if len(all) != 2 || all[0].Name != "data" || len(warnings) != 1 || !strings.Contains(warnings[0], "list far: it is dead") {
		t.Errorf("%+v %v", all, warnings)
	}
	if _, err := s.Look(t.Context(), "data"); err == nil || moss.ClassOf(err) != moss.Unavailable {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), "data"); err == nil || moss.ClassOf(err) != moss.Unavailable {
		t.Error(err)
	}
	s = openFar(t, dir, f) // nobody minds
	s.Settle(func(moss.ContainerID) bool { return false })
	f.set(func() { f.dead = false })
	if _, warnings := s.Listed(t.Context()); len(warnings) > 0 { // which wakes those who wait for it
		t.Error(warnings)
	}
	if got := <-f.told; got != "data c1" && got != "data c2" {
		t.Error(got)
	}
}

func TestRemoteLies(t *testing.T) {
	f := newFar(t)
	s := openFar(t, t.TempDir(), f)
	createFar(t, s, "data")
	for lie, want := range map[string]string{"relative": "no absolute path", "/nosuch/place": "cannot be seen in moss's namespaces"} {
		f.set(func() { f.lie = lie })
		if err := s.Mount(t.Context(), "data", "c1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
		if u := f.using("data"); len(u) > 0 {
			t.Errorf("%v use it", u)
		}
	}
}

func TestRemoteFill(t *testing.T) {
	f := newFar(t)
	s := openFar(t, t.TempDir(), f)
	v := createFar(t, s, "data")
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "etc/sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "etc/sub/f"), []byte("x"), 0o600))
	must(t, os.MkdirAll(filepath.Join(v.Path, ".moss_fill.new"), 0o755)) // of a copy that was cut short
	for range 2 {
		must(t, s.Fill(t.Context(), "data", moss.Mount{Path: root}, "/etc"))
		if text, err := os.ReadFile(filepath.Join(v.Path, "sub/f")); err != nil || string(text) != "x" {
			t.Errorf("%q %v", text, err)
		}
		must(t, os.WriteFile(filepath.Join(root, "etc/sub/f"), []byte("y"), 0o600))
	}
	if entries, err := os.ReadDir(v.Path); err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
	if u := f.using("data"); len(u) > 0 {
		t.Errorf("%v use it", u)
	}
}
