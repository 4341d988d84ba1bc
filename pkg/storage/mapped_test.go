package storage

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
)

// keepID is the map of --userns keep-id for the user 1000.
var keepID = []moss.IDMap{{Container: 0, Engine: 1, Size: 1000}, {Container: 1000, Engine: 0, Size: 1}, {Container: 1001, Engine: 1001, Size: 60000}}

// Files of a container with a user namespace of its own belong to the engine's
// ids that they are by its maps, and whoever reads or writes them by the engine
// sees the container's.
func TestMapped(t *testing.T) {
	if !nstest.Full() {
		t.Skip("only one id is mapped here")
	}
	eachDriver(t, func(t *testing.T, driver string) { mapped(t, open(t, t.TempDir(), driver)) })
}

func mapped(t *testing.T, s *Storage) {
	im := image(t, s, hello, porttest.File{Name: "theirs", UID: 33, GID: 1000})
	maps := moss.IDMaps{UIDs: keepID, GIDs: keepID}
	ids := []moss.ContainerID{moss.ContainerID(moss.NewHexID()), moss.ContainerID(moss.NewHexID())}
	layers := func() int {
		t.Helper()
		list, err := s.store.Layers()
		must(t, err)
		return len(list)
	}
	before := layers()
	for i, id := range ids {
		must(t, s.CreateMapped(t.Context(), id, im, maps, i == 1))
	}
	if n := layers() - before; n != 3 { // one copy of the image, and two of the containers'
		t.Errorf("%d layers more, want 3", n)
	}
	id := ids[0]
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(m.Path, "theirs"), &st))
	if st.Uid != 34 || st.Gid != 0 {
		t.Errorf("owner is %d:%d, want 34:0", st.Uid, st.Gid)
	}
	must(t, unix.Stat(m.Path, &st))
	if st.Uid != 1 || st.Gid != 1 {
		t.Errorf("the root's owner is %d:%d, want 1:1", st.Uid, st.Gid)
	}
	if list, err := s.Changes(t.Context(), id); err != nil || len(list) > 0 {
		t.Errorf("changed: %v %v", list, err)
	}

	var in bytes.Buffer
	tw := tar.NewWriter(&in)
	must(t, tw.WriteHeader(&tar.Header{Name: "new", Typeflag: tar.TypeReg, Uid: 1000, Gid: 5, Mode: 0o644}))
	must(t, tw.Close())
	view := moss.View{Container: id, Rootfs: m}
	must(t, s.Unpack(t.Context(), view, "/", bytes.NewReader(in.Bytes()), moss.UnpackOptions{}))
	must(t, unix.Stat(filepath.Join(m.Path, "new"), &st))
	if st.Uid != 0 || st.Gid != 6 {
		t.Errorf("what was copied in belongs to %d:%d, want 0:6", st.Uid, st.Gid)
	}
	in.Reset()
	tw = tar.NewWriter(&in)
	must(t, tw.WriteHeader(&tar.Header{Name: "far", Typeflag: tar.TypeReg, Uid: 61001, Mode: 0o644}))
	must(t, tw.Close())
	if err := s.Unpack(t.Context(), view, "/", &in, moss.UnpackOptions{}); !errors.Is(err, errNoID) || moss.ClassOf(err) != moss.Invalid {
		t.Errorf("an owner that there is not: %v", err)
	}

	owners := func(r io.ReadCloser, err error) map[string][2]int {
		t.Helper()
		must(t, err)
		defer r.Close()
		got := map[string][2]int{}
		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				return got
			}
			must(t, err)
			got[strings.TrimPrefix(h.Name, "/")] = [2]int{h.Uid, h.Gid}
		}
	}
	diff := owners(s.Diff(t.Context(), id))
	if delete(diff, "far"); diff["new"] != [2]int{1000, 5} || len(diff) != 1 { // it was made before it could not be given away
		t.Errorf("changes belong to %v", diff)
	}
	if all := owners(s.Export(t.Context(), id)); all["theirs"] != [2]int{33, 1000} || all["new"] != [2]int{1000, 5} {
		t.Errorf("files belong to %v", all)
	}
	_, one, err := s.Pack(t.Context(), view, "/theirs")
	if got := owners(one, err); got["theirs"] != [2]int{33, 1000} {
		t.Errorf("what is copied out belongs to %v", got)
	}
	for _, id := range ids {
		must(t, s.Remove(t.Context(), id))
	}
	if err := s.CreateMapped(t.Context(), id, im, moss.IDMaps{UIDs: []moss.IDMap{{Engine: 1, Size: 10}}, GIDs: []moss.IDMap{{Engine: 1, Size: 2000}}}, false); err == nil || moss.ClassOf(err) != moss.Invalid || !strings.Contains(err.Error(), "use a larger one") {
		t.Errorf("an image with ids beyond the map: %v", err)
	}
	if list, err := s.List(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("left: %v %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(shownDir, string(id))); err == nil {
		t.Error("it was shown although it need not be")
	}
}

// The list of layers is made anew with the maps: of a container that is there, and of the next.
func TestMappedDamaged(t *testing.T) {
	if !nstest.Full() {
		t.Skip("only one id is mapped here")
	}
	dir := t.TempDir()
	s := open(t, dir, driverOverlay)
	im := named(t, s, "first", []porttest.File{{Name: "low", Text: "low"}}, []porttest.File{{Name: "theirs", UID: 33, GID: 1000}})
	maps := moss.IDMaps{UIDs: keepID, GIDs: keepID}
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.CreateMapped(t.Context(), id, im, maps, false))
	must(t, s.Close())
	l := lists{root: filepath.Join(dir, "graph"), run: filepath.Join(dir, "run"), driver: driverOverlay}
	names := l.layers()
	for _, file := range []string{names[0], names[0] + goodSuffix} { // nothing is to be had of the copy
		must(t, os.WriteFile(file, []byte("garbage"), 0o600))
	}
	s = open(t, dir, "")
	layers := func() int {
		list, err := s.store.Layers()
		must(t, err)
		return len(list)
	}
	before := layers()
	next := moss.ContainerID(moss.NewHexID())
	must(t, s.CreateMapped(t.Context(), next, im, maps, false))
	if n := layers() - before; n != 1 {
		t.Errorf("%d layers more, want that of the container alone", n)
	}
	for _, id := range []moss.ContainerID{id, next} {
		m, err := s.Mount(t.Context(), id)
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(m.Path, "theirs"), &st))
		if sh := s.shiftOf(id); st.Uid != 34 || st.Gid != 0 || len(sh.uids) != len(keepID) {
			t.Errorf("owner is %d:%d, want 34:0; the map is %v", st.Uid, st.Gid, sh.uids)
		}
		if b, err := os.ReadFile(filepath.Join(m.Path, "low")); string(b) != "low" {
			t.Errorf("the file of a lower layer has %q, %v", b, err)
		}
		if list, err := s.Changes(t.Context(), id); err != nil || len(list) > 0 {
			t.Errorf("changed: %v %v", list, err)
		}
		must(t, s.Unmount(t.Context(), id))
	}
	must(t, s.Close())
}
