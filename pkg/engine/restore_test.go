package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// reboot ends the daemon in order and starts another; between is what happens
// in the meantime.
func (r *rig) reboot(fresh bool, between func()) {
	r.t.Helper()
	synctest.Wait()
	r.crash()
	if between != nil {
		between()
	}
	r.boot(fresh)
	synctest.Wait()
}

// clear takes down what a container's run has, as an end does.
func (r *rig) clear(id moss.ContainerID) {
	r.t.Helper()
	r.must(r.units.Collect(r.t.Context(), id))
	r.must(r.rootfs.Unmount(r.t.Context(), id))
	r.must(r.runtime.Delete(r.t.Context(), &moss.Container{ID: id}))
}

// edit changes a record on disk.
func (r *rig) edit(id moss.ContainerID, change func(*moss.Container)) {
	r.t.Helper()
	all, _, err := r.records.Load()
	r.must(err)
	for _, rec := range all {
		if rec.ID == id {
			change(rec)
			r.must(r.records.Put(rec, true))
		}
	}
}

func TestRestore(t *testing.T) {
	for name, c := range map[string]struct {
		opts  []option
		run   bool
		fresh bool
		while func(r *rig, id moss.ContainerID)
		want  moss.State // "" for gone
		code  int
		oom   bool
	}{
		"created": {want: moss.StateCreated},
		"running": {run: true, want: moss.StateRunning},
		"exited meanwhile": {
			run: true, want: moss.StateExited, code: 3,
			while: func(r *rig, id moss.ContainerID) { r.units.Exit(id, 3) },
		},
		"exited meanwhile, to be removed": {
			opts: []option{autoRemove}, run: true, want: "",
			while: func(r *rig, id moss.ContainerID) { r.units.Exit(id, 3) },
		},
		"exited meanwhile, to be restarted": {
			opts: []option{policy(moss.RestartOnFailure, 1)}, run: true, want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) { r.units.Exit(id, 3) },
		},
		"the unit went away": {
			run: true, want: moss.StateExited, code: 255,
			while: func(r *rig, id moss.ContainerID) { r.must(r.units.Collect(r.t.Context(), id)) },
		},
		"killed for want of memory": {
			run: true, want: moss.StateExited, code: 137, oom: true,
			while: func(r *rig, id moss.ContainerID) { r.units.UnseenOOM(id) },
		},
		"the unit was stopped": { // the user's word
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, want: moss.StateExited, code: 255,
			while: func(r *rig, id moss.ContainerID) { r.units.Stop(id) },
		},
		"the holder took the unit along": { // nobody's
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, fresh: true, want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) { r.units.Stop(id) },
		},
		"the holder took the unit along, and its end is known": {
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, fresh: true, want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) { r.units.StopFailing(id, 5) },
		},
		"the unit was stopped, and its end is known": {
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, want: moss.StateExited, code: 5,
			while: func(r *rig, id moss.ContainerID) { r.units.StopFailing(id, 5) },
		},
		"the machine went away": {
			opts: []option{policy(moss.RestartUnlessStopped, 0)}, run: true, fresh: true, want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) {
				r.must(r.units.Collect(r.t.Context(), id))
				r.records.Reboot()
			},
		},
		"the unit runs something else": {
			run: true, want: moss.StateExited, code: 255,
			while: func(r *rig, id moss.ContainerID) { r.edit(id, func(c *moss.Container) { c.Run.PID = 1 }) },
		},
		"a unit that nobody asked for": {
			run: true, want: moss.StateExited,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.State, c.Network, c.Run = moss.StateExited, nil, moss.Run{} })
			},
		},
		"a removal was interrupted": {
			want: "",
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.State, c.Intent = moss.StateRemoving, moss.IntentRemove })
			},
		},
		"dead": {
			want: moss.StateDead,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.State, c.Intent = moss.StateDead, moss.IntentRemove })
			},
		},
		"dead with a unit": {
			run: true, want: moss.StateDead,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) {
					c.State, c.Intent, c.Network, c.Run = moss.StateDead, moss.IntentRemove, nil, moss.Run{}
				})
			},
		},
		"a restart waited": {
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) {
				r.clear(id)
				r.edit(id, func(c *moss.Container) {
					c.State, c.Network, c.Run = moss.StateRestarting, nil, moss.Run{ExitCode: 1, Restarts: 4}
				})
			},
		},
		"a start had begun": {
			want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.Intent = moss.IntentStart })
			},
		},
		"a start was all but done": {
			run: true, want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.State, c.Intent = moss.StateCreated, moss.IntentStart })
			},
		},
		"a start was all but done, and the run is over": {
			run: true, want: moss.StateExited, code: 9,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.State, c.Intent = moss.StateCreated, moss.IntentStart })
				r.units.Exit(id, 9)
			},
		},
		"a start was all but done, the run is over, and it is to be removed": {
			opts: []option{autoRemove}, run: true, want: "",
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.State, c.Intent = moss.StateCreated, moss.IntentStart })
				r.units.Exit(id, 9)
			},
		},
		"a start was all but done, the run is over, and it is to be restarted": {
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.State, c.Intent = moss.StateCreated, moss.IntentStart })
				r.units.Exit(id, 9)
			},
		},
		"a stop was interrupted": {
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, want: moss.StateExited, code: 143,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) { c.Stopped, c.Intent = true, moss.IntentStop })
			},
		},
		"a stop with a signal of its own was interrupted": {
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, want: moss.StateExited, code: 130,
			while: func(r *rig, id moss.ContainerID) {
				r.edit(id, func(c *moss.Container) {
					c.Stopped, c.Intent, c.StopAs = true, moss.IntentStop, &moss.StopOptions{Signal: "INT"}
				})
			},
		},
		"it ended and was to be removed": {
			opts: []option{autoRemove}, run: true, want: "",
			while: func(r *rig, id moss.ContainerID) {
				r.clear(id)
				r.edit(id, func(c *moss.Container) {
					c.State, c.Network, c.Run.PID = moss.StateExited, nil, 0
				})
			},
		},
		"exited long before, always": {
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, fresh: true, want: moss.StateRunning,
			while: func(r *rig, id moss.ContainerID) {
				r.clear(id)
				r.edit(id, func(c *moss.Container) {
					c.State, c.Stopped, c.Network, c.Run.PID = moss.StateExited, true, nil, 0
				})
			},
		},
		"exited long before, always, and only the daemon is new": {
			opts: []option{policy(moss.RestartAlways, 0)}, run: true, want: moss.StateExited,
			while: func(r *rig, id moss.ContainerID) {
				r.clear(id)
				r.edit(id, func(c *moss.Container) {
					c.State, c.Stopped, c.Network, c.Run.PID = moss.StateExited, true, nil, 0
				})
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				id := r.create(append(c.opts, named("web"), published)...)
				other := r.run(named("other")) // is not touched by any of it
				pid := r.get(other).Run.PID
				if c.run {
					r.start(id)
				}
				r.reboot(c.fresh, func() {
					if c.while != nil {
						c.while(r, id)
					}
				})
				settle()
				if c.want == "" {
					if !r.gone(id) {
						t.Errorf("it is still there, %s", r.get(id).State)
					}
				} else {
					r.wantState(id, c.want, c.code)
					if got := r.get(id).Run.OOMKilled; got != c.oom {
						t.Errorf("killed for want of memory: %v", got)
					}
				}
				if got := r.get(other); got.State != moss.StateRunning || got.Run.PID != pid {
					t.Errorf("the other one is %s", got.State)
				}
				r.check()
				for _, id := range []moss.ContainerID{id, other} {
					if err := r.remove(id, true); err != nil && moss.ClassOf(err) != moss.NotFound {
						t.Error(err)
					}
				}
				r.checkEmpty()
			})
		})
	}
}

func TestRestoreLeavesRunningContainersInPeace(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(published)
		before := r.get(id)
		r.reboot(false, nil)
		after := r.get(id)
		if after.Run.PID != before.Run.PID || !after.Run.StartedAt.Equal(before.Run.StartedAt) || after.Network.Endpoint != before.Network.Endpoint {
			t.Errorf("%+v", after)
		}
		if left := r.nets.Left(); len(left) != 3 {
			t.Errorf("its network is %v", left)
		}
		r.exit(id, 6)
		r.wantState(id, moss.StateExited, 6)
		r.wantActions(id, "create", "publish", "start", "die", "unpublish")
		r.check()
	})
}

func TestRestoreRemovesOrphansAndLeavesBrokenRecordsAlone(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		orphan, broken := r.run(named("orphan")), r.run(named("broken"))
		r.reboot(false, func() {
			r.must(r.records.Delete(orphan))
			r.records.Break(broken, errInjected)
			r.must(os.Mkdir(filepath.Join(r.dir, "containers", moss.NewHexID()), 0o700)) // of a create that was cut short
			r.must(os.Mkdir(filepath.Join(r.dir, "containers", "notes"), 0o700))         // not ours
		})
		var dirs []string
		entries, err := os.ReadDir(filepath.Join(r.dir, "containers"))
		r.must(err)
		for _, d := range entries {
			dirs = append(dirs, d.Name())
		}
		if want := []string{string(broken), "notes"}; !slices.Equal(dirs, want) {
			t.Errorf("directories %q, want %q", dirs, want)
		}
		list, err := r.units.List(t.Context())
		r.must(err)
		if len(list) != 1 || list[0].Short != broken.Short() || list[0].Phase != moss.UnitRunning {
			t.Errorf("units: %+v", list)
		}
		layers, err := r.rootfs.List(t.Context())
		r.must(err)
		if !slices.Equal(layers, []moss.ContainerID{broken}) || !slices.Equal(r.rootfs.Mounted(), layers) {
			t.Errorf("layers: %v, mounted %v", layers, r.rootfs.Mounted())
		}
		if !r.gone(orphan) || !r.gone(broken) {
			t.Error("there are containers without a record")
		}
	})
}

func TestOneContainerStopsNoOtherFromBeingRestored(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var ids []moss.ContainerID
		for n := range 40 {
			ids = append(ids, r.run(named(fmt.Sprintf("c%d", n))))
		}
		synctest.Wait()
		r.crash()
		r.units.Exit(ids[7], 1)
		r.rootfs.Fail("Unmount", errInjected)
		r.boot(false)
		synctest.Wait()
		for n, id := range ids {
			if n != 7 {
				r.wantState(id, moss.StateRunning, 0)
			}
		}
		r.wantState(ids[7], moss.StateExited, 1)
	})
}

// A start that was interrupted and can neither go on nor begin anew leaves
// nothing, and says why.
func TestAnInterruptedStartThatFails(t *testing.T) {
	for _, opts := range [][]option{{}, {autoRemove}} {
		for _, broken := range []string{"Runtime.Start", "Rootfs.Mount", "Records.Put"} {
			bubble(t, func(t *testing.T, r *rig) {
				id := r.create(opts...)
				if broken != "Rootfs.Mount" {
					r.start(id)
				}
				synctest.Wait()
				r.crash()
				r.edit(id, func(c *moss.Container) { c.State, c.Intent = moss.StateCreated, moss.IntentStart })
				switch broken {
				case "Runtime.Start":
					r.runtime.OnStart = func(*moss.Container) error { return errInjected }
				case "Rootfs.Mount":
					r.rootfs.Fail("Mount", errInjected)
				case "Records.Put":
					r.records.Fail("Put", errInjected)
				}
				r.boot(false)
				synctest.Wait()
				r.records.Fail("Put", nil)
				if len(opts) > 0 {
					r.checkEmpty()
					return
				}
				if c := r.get(id); c.State != moss.StateCreated || c.Run.Error == "" {
					t.Errorf("%s broken: %s, %q", broken, c.State, c.Run.Error)
				}
				list, err := r.units.List(t.Context())
				r.must(err)
				if len(list)+len(r.nets.Left())+len(r.stdio.Left())+len(r.runtime.Containers())+len(r.rootfs.Mounted()) > 0 {
					t.Errorf("%s broken: left are %v %v %v", broken, list, r.nets.Left(), r.stdio.Left())
				}
			})
		}
	}
}

// The daemon is killed before each of the calls that a scenario makes; the
// next one finds the machine as it is then, and everything must fit together.
func TestTheDaemonCanBeKilledAnywhere(t *testing.T) {
	scenarios := map[string]func(r *rig){
		"run": func(r *rig) {
			if id, err := r.tryCreate(named("web"), published); err == nil {
				_ = r.Containers().Start(r.t.Context(), string(id))
				r.exit(id, 3)
			}
		},
		"run and remove": func(r *rig) {
			if id, err := r.tryCreate(named("web"), published, autoRemove); err == nil {
				_ = r.Containers().Start(r.t.Context(), string(id))
				r.exit(id, 3)
			}
		},
		"restart policy": func(r *rig) {
			if id, err := r.tryCreate(named("web"), policy(moss.RestartOnFailure, 2)); err == nil {
				_ = r.Containers().Start(r.t.Context(), string(id))
				r.exit(id, 3)
				time.Sleep(time.Second)
				synctest.Wait()
				r.exit(id, 3)
				time.Sleep(time.Second)
				synctest.Wait()
			}
		},
		"stop": func(r *rig) {
			if id, err := r.tryCreate(named("web"), policy(moss.RestartAlways, 0)); err == nil {
				_ = r.Containers().Start(r.t.Context(), string(id))
				_ = r.stop(id)
			}
		},
		"restart": func(r *rig) {
			if id, err := r.tryCreate(named("web"), published); err == nil {
				_ = r.Containers().Start(r.t.Context(), string(id))
				_ = r.Containers().Restart(r.t.Context(), string(id), moss.StopOptions{})
			}
		},
		"remove by force": func(r *rig) {
			if id, err := r.tryCreate(named("web"), published); err == nil {
				_ = r.Containers().Start(r.t.Context(), string(id))
				_ = r.remove(id, true)
			}
		},
	}
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) {
			for at := 0; killed(t, scenario, at); at++ {
			}
		})
	}
}

// A daemon that is told to end while it restores leaves the rest to the next one,
// which finds nothing half done.
func TestTheDaemonCanBeToldToEndWhileItRestores(t *testing.T) {
	for at, more := 1, true; more; at++ {
		bubble(t, func(t *testing.T, r *rig) {
			doomed := r.run(named("doomed"))
			r.exit(doomed, 0)
			always := r.run(named("always"), policy(moss.RestartAlways, 0))
			runs := r.run(named("runs"))
			r.must(r.stop(always))
			synctest.Wait()
			r.crash()
			r.edit(doomed, func(c *moss.Container) { c.Intent = moss.IntentRemove })
			restored, calls := r.bootAndEnd(at)
			more = len(calls) >= at
			r.boot(!restored)
			settle()
			if !r.gone(doomed) {
				t.Errorf("ended before call %d, %s: what was being removed is %s", at, calls[min(at, len(calls))-1], r.get(doomed).State)
			}
			for _, id := range []moss.ContainerID{always, runs} {
				if got := r.get(id).State; got != moss.StateRunning {
					t.Errorf("ended before call %d, %s: %s is %s", at, calls[min(at, len(calls))-1], r.get(id).Name, got)
				}
			}
			r.check()
		})
	}
}

// killed runs a scenario, kills the daemon before its at-th call and boots the
// next, which is killed too, before each of its first calls, and a third. It
// is false when the scenario has fewer calls.
func killed(t *testing.T, scenario func(*rig), at int) (more bool) {
	for again := -1; again < 12; again++ {
		bubble(t, func(t *testing.T, r *rig) {
			r.faults.arm(-1, at)
			scenario(r)
			synctest.Wait()
			calls := r.faults.disarm()
			if len(calls) <= at {
				return
			}
			more = true
			r.crash()
			if again >= 0 {
				r.bootAndKill(again)
			}
			r.boot(false)
			settle()
			for _, w := range r.wrongs() {
				t.Errorf("killed before call %d, %s (then %d): %s", at, calls[at], again, w)
			}
			list, err := r.Views().List(moss.ContainerFilter{All: true})
			r.must(err)
			for _, c := range list {
				if c.Host.AutoRemove && c.State == moss.StateExited {
					t.Errorf("killed before call %d, %s (then %d): it was to be removed and is %s", at, calls[at], again, c.State)
				}
				if c.State == moss.StateRestarting || c.State == moss.StateDead {
					t.Errorf("killed before call %d, %s (then %d): it is %s: %s", at, calls[at], again, c.State, c.Run.Error)
				}
				r.must(r.remove(c.ID, true))
			}
			r.check()
		})
		if !more {
			return false
		}
	}
	return true
}
