package image

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

type holder map[moss.ImageID]bool

func (h holder) Holds(id moss.ImageID) bool { return h[id] }

// What stands on an image without the store's knowing keeps it all the same.
func TestDeleteHeld(t *testing.T) {
	s := open(t, t.TempDir())
	held := holder{}
	s.other = held
	got, err := load(t, s, porttest.DockerArchive(t, porttest.ArchiveImage{Layers: [][]porttest.File{{{Name: "a"}}}}))
	must(t, err)
	id := got[0].ID
	held[id] = true
	if _, err := s.Delete(t.Context(), id); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("Delete is %v, want a conflict", err)
	}
	if _, err := s.Resolve(t.Context(), string(id)); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
	held[id] = false
	_, err = s.Delete(t.Context(), id)
	must(t, err)
}
