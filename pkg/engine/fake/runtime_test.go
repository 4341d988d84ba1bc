package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

type runtimeRig struct {
	r    *fake.Runtime
	proc map[moss.ContainerID]*fake.Process
}

func (r runtimeRig) Runtime() engine.Runtime { return r.r }

func (r runtimeRig) Bundle(_ *testing.T, command ...string) moss.Bundle {
	return moss.Bundle{Container: moss.Container{
		ID: moss.ContainerID(moss.NewHexID()), Name: "c", Path: command[0], Args: command[1:],
	}}
}

func (r runtimeRig) Launch(_ *testing.T, id moss.ContainerID, _ moss.Launch) error {
	if err := r.r.Create(id); err != nil {
		return err
	}
	r.proc[id] = r.r.Process(id)
	return nil
}

func (r runtimeRig) Wait(t *testing.T, id moss.ContainerID) int {
	code, err := r.proc[id].Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func (r runtimeRig) Left(*testing.T) []string {
	var left []string
	for _, id := range r.r.Containers() {
		left = append(left, string(id))
	}
	return left
}

func TestRuntime(t *testing.T) {
	porttest.Runtime(t, func(*testing.T) porttest.RuntimeRig {
		return runtimeRig{fake.NewRuntime(), map[moss.ContainerID]*fake.Process{}}
	})
}
