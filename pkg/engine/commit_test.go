package engine_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// writeFile writes into a container's root file system.
func (r *rig) writeFile(id moss.ContainerID, name, text string) {
	r.t.Helper()
	ctx := r.t.Context()
	m, err := r.rootfs.Mount(ctx, id)
	r.must(err)
	r.must(os.WriteFile(filepath.Join(m.Path, name), []byte(text), 0o600))
	if !r.get(id).State.Alive() {
		r.must(r.rootfs.Unmount(ctx, id))
	}
}

func (r *rig) commit(q moss.CommitRequest) (moss.ImageID, error) {
	return r.FileService().Commit(r.t.Context(), q)
}

// frozen says whether the container's processes stand still.
func (r *rig) frozen(id moss.ContainerID) bool {
	list, err := r.units.List(r.t.Context())
	r.must(err)
	i := slices.IndexFunc(list, func(st moss.UnitStatus) bool { return st.Short == id.Short() })
	return i >= 0 && list[i].Frozen
}

func TestCommit(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(named("web"), func(q *moss.CreateRequest) {
			q.Config.Env, q.Config.Labels = []string{"A=1", "B=2"}, map[string]string{"mine": "yes"}
		})
		r.writeFile(id, "new", "new\n")
		held := false
		r.units.OnFreeze = func(_ moss.ContainerID, frozen bool) error { held = held || frozen; return nil }
		image, err := r.commit(moss.CommitRequest{
			Container: "web", Reference: "mine/web", Author: "me", Message: "why not", Pause: true,
			Config: &moss.ContainerConfig{Env: []string{"A=3"}, Labels: map[string]string{"more": "too"}},
		})
		r.must(err)
		if !held || r.frozen(id) {
			t.Error("it was to stand still meanwhile, and not after")
		}
		im, err := r.ImageService().Get(t.Context(), "mine/web:latest")
		r.must(err)
		if im.ID != image || im.Author != "me" || im.Comment != "why not" || len(im.DiffIDs) != 1 || im.History[0].CreatedBy != "sleep inf" {
			t.Errorf("%+v", im)
		}
		c := im.Config
		if !slices.Equal(slices.Sorted(slices.Values(c.Env)), []string{"A=3", "B=2"}) || c.Labels["mine"] != "yes" || c.Labels["more"] != "too" || c.Labels["of"] != "box" || !slices.Equal(c.Cmd, []string{"sleep", "inf"}) {
			t.Errorf("%+v", c)
		}
		r.wantActions(id, "create", "start", "commit")
		last := r.events.Of(string(id))[2].Attributes
		if last["comment"] != "why not" || last["imageID"] != string(image) || last["imageRef"] != "mine/web:latest" || last["name"] != "web" {
			t.Errorf("%v", last)
		}
		if story := r.story(); len(story) != 1 || !strings.HasPrefix(story[0], "tag "+string(image)) {
			t.Errorf("%q", story)
		}

		// Without a name, of one that has ended, with nothing to freeze.
		held = false
		r.must(r.stop(id))
		_, err = r.commit(moss.CommitRequest{Container: "web", Pause: true})
		r.must(err)
		if held {
			t.Error("what does not run was frozen")
		}
		for ref, class := range map[string]moss.Class{"NO NAME": moss.Invalid, "x@sha256:" + hex64: moss.Invalid} {
			_, err = r.commit(moss.CommitRequest{Container: "web", Reference: ref})
			r.wantClass(err, class)
		}
		_, err = r.commit(moss.CommitRequest{Container: "nobody"})
		r.wantClass(err, moss.NotFound)
		r.check()
	})
}

func TestEveryStepOfACommitCanFail(t *testing.T) {
	for step := 0; ; step++ {
		more := false
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run(named("web"))
			r.faults.arm(step, -1)
			_, err := r.commit(moss.CommitRequest{Container: "web", Reference: "made", Pause: true})
			calls := r.faults.disarm()
			if len(calls) <= step {
				r.must(err)
				return
			}
			more = true
			fact := step > 0 && calls[step] == "Records.Put" // that it goes on is true all the same
			if !fact && (err == nil || !strings.Contains(err.Error(), errInjected.Error())) {
				t.Errorf("%s failed, and commit says %v", calls[step], err)
			}
			settle()
			r.wantState(id, moss.StateRunning, 0)
			if r.frozen(id) {
				t.Errorf("%s failed, and it stands still", calls[step])
			}
			if fact { // the record is mended by the next change
				r.must(r.stop(id))
			}
			r.check()
			r.must(r.remove(id, true))
			r.checkEmpty()
		})
		if !more {
			if step < 5 {
				t.Errorf("a commit has %d steps", step)
			}
			return
		}
	}
}

func TestADaemonKilledDuringACommitLetsTheProcessesGo(t *testing.T) {
	for at := 1; ; at++ {
		more := false
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run(named("web"))
			r.faults.arm(-1, at)
			_, err := r.commit(moss.CommitRequest{Container: "web", Pause: true})
			more = len(r.faults.disarm()) > at
			if more && at > 1 && at < 4 && (err == nil || !r.frozen(id)) {
				t.Errorf("killed at call %d: %v, frozen %v", at, err, r.frozen(id))
			}
			r.crash()
			r.boot(false)
			settle()
			r.wantState(id, moss.StateRunning, 0)
			r.check()
		})
		if !more {
			return
		}
	}
}

func TestNobodyWaitsForACommit(t *testing.T) {
	const long = time.Hour
	start := func(t *testing.T, r *rig, id moss.ContainerID, pause bool) chan error {
		r.lag = long
		done := make(chan error, 1)
		go func() {
			_, err := r.commit(moss.CommitRequest{Container: string(id), Pause: pause})
			done <- err
		}()
		synctest.Wait()
		if r.frozen(id) != pause {
			t.Fatal("it does not stand still")
		}
		return done
	}
	t.Run("stop", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id, began := r.run(), time.Now()
			done := start(t, r, id, true)
			r.must(r.stop(id))
			if took := time.Since(began); took >= defaultTimeout {
				t.Errorf("stop took %s: the process did not get its signal", took)
			}
			r.must(<-done)
			r.check()
		})
	})
	t.Run("kill", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			done := start(t, r, id, true)
			r.must(r.Signals().Kill(t.Context(), string(id), 9))
			r.wantState(id, moss.StateExited, 137)
			r.must(<-done)
			r.start(id) // and again meanwhile or after
			r.wantState(id, moss.StateRunning, 0)
			r.check()
		})
	})
	t.Run("exec", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			done := start(t, r, id, true)
			_, err := r.Execs().Create(t.Context(), string(id), moss.ExecConfig{Cmd: []string{"x"}})
			r.wantClass(err, moss.Conflict)
			r.must(<-done)
			_, err = r.Execs().Create(t.Context(), string(id), moss.ExecConfig{Cmd: []string{"x"}})
			r.must(err)
		})
	})
	t.Run("two commits", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			first := start(t, r, id, true)
			time.Sleep(time.Minute)
			second := start(t, r, id, true)
			r.must(<-first)
			if !r.frozen(id) {
				t.Error("the end of the first let go what the second holds")
			}
			r.must(<-second)
			r.check()
		})
	})
	t.Run("remove", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.create()
			done := start(t, r, id, false)
			err := r.remove(id, false)
			r.wantClass(err, moss.Conflict)
			r.must(<-done)
			r.must(r.remove(id, false))
			r.checkEmpty()
		})
	})
	t.Run("remove by force", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			done := start(t, r, id, true)
			r.must(r.remove(id, true))
			err := <-done
			if r.wantClass(err, moss.Conflict); !strings.Contains(err.Error(), "being removed") {
				t.Error(err)
			}
			r.checkEmpty()
		})
	})
	t.Run("client leaves", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			r.lag = long
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := r.FileService().Commit(ctx, moss.CommitRequest{Container: string(id), Pause: true})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			r.check()
		})
	})
	t.Run("end of one that goes then", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run(autoRemove)
			done := start(t, r, id, false)
			r.exit(id, 0)
			r.wantState(id, moss.StateExited, 0)
			r.must(<-done)
			synctest.Wait()
			r.checkEmpty()
		})
	})
	t.Run("start that fails of one that goes then", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.create(autoRemove)
			done := start(t, r, id, false)
			r.units.OnStart = func(moss.UnitSpec) error { return errInjected }
			if err := r.Containers().Start(t.Context(), string(id)); !errors.Is(err, errInjected) {
				t.Error(err)
			}
			if r.gone(id) {
				t.Error("it went while it was read")
			}
			r.must(<-done)
			synctest.Wait()
			r.checkEmpty()
		})
	})
}

const defaultTimeout = 10 * time.Second

func TestMachinesThatCannotFreeze(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		r.units.OnFreeze = func(moss.ContainerID, bool) error { return moss.Errorf(moss.NotImplemented, "no freezer") }
		_, err := r.commit(moss.CommitRequest{Container: string(id), Pause: true})
		if r.wantClass(err, moss.NotImplemented); err == nil || !strings.Contains(err.Error(), "--pause=false") {
			t.Error(err)
		}
		_, err = r.commit(moss.CommitRequest{Container: string(id)})
		r.must(err)
		r.check()
	})
}

func TestExport(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"))
		r.writeFile(id, "new", "new\n")
		tree, err := r.FileService().Export(t.Context(), "web")
		r.must(err)
		tr := tar.NewReader(tree)
		h, err := tr.Next()
		if err != nil || h.Name != "new" {
			t.Errorf("%+v %v", h, err)
		}
		r.wantClass(r.remove(id, false), moss.Conflict)
		_, err = io.Copy(io.Discard, tree)
		r.must(err)
		r.must(tree.Close())
		r.wantActions(id, "create", "export")

		tree, err = r.FileService().Export(t.Context(), "web")
		r.must(err)
		removed := make(chan error, 1)
		go func() { removed <- r.remove(id, true) }()
		synctest.Wait()
		if _, err := io.Copy(io.Discard, tree); moss.ClassOf(err) != moss.Conflict || !strings.Contains(err.Error(), "being removed") {
			t.Error(err)
		}
		r.must(tree.Close())
		r.must(<-removed)
		r.checkEmpty()
		_, err = r.FileService().Export(t.Context(), "web")
		r.wantClass(err, moss.NotFound)
	})
}
