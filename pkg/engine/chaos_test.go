package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

// Goroutines do whatever they like to a few containers. No call may fail for a
// reason that is not its caller's, no call may hang, and in the end the
// machine must be as the records say.
func TestEveryoneAtOnce(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.units.Ignore = func(_ moss.ContainerID, sig syscall.Signal) bool { return sig == syscall.SIGHUP }
				r.lag = 200 * time.Millisecond
				ill := r.falling()
				r.busy(seed, 8, 40)
				ill.Store(false)
				settle()
				r.check()
				r.checkStories()
				r.reboot(false, nil)
				settle()
				r.check()
				list, err := r.Views().List(moss.ContainerFilter{All: true})
				r.must(err)
				for _, c := range list {
					r.must(r.remove(c.ID, true))
				}
				settle()
				r.checkEmpty()
			})
		})
	}
}

// The daemon is killed at some call in the midst of all that, three times over.
func TestKilledWhileEveryoneIsBusy(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				rnd := rand.New(rand.NewPCG(seed, 0))
				r.lag = 200 * time.Millisecond
				ill := r.falling()
				for range 3 {
					ill.Store(true)
					r.faults.arm(-1, 50+rnd.IntN(300))
					r.busy(seed, 8, 20)
					r.crash()
					ill.Store(false)
					r.boot(rnd.IntN(2) == 0)
					settle()
					r.check()
				}
				list, err := r.Views().List(moss.ContainerFilter{All: true})
				r.must(err)
				for _, c := range list {
					if c.Host.AutoRemove && c.State == moss.StateExited {
						t.Errorf("%s was to be removed", c.Name)
					}
					r.must(r.remove(c.ID, true))
				}
				settle()
				r.checkEmpty()
			})
		})
	}
}

// falling makes the health checks fail as long as what it returns is true.
func (r *rig) falling() *atomic.Bool {
	var ill atomic.Bool
	var n atomic.Int64
	ill.Store(true)
	r.runtime.OnExec = func(e *moss.Exec, _ moss.ChildStdio) (*fake.Process, error) {
		p := fake.NewProcess(int(5000 + n.Add(1)))
		switch {
		case !e.Probe: // it sleeps
		case !ill.Load():
			p.Exit(0)
		case n.Load()%4 > 0: // every fourth hangs
			p.Exit(1)
		}
		return p, nil
	}
	return &ill
}

func checked(action moss.UnhealthyAction) option {
	return func(q *moss.CreateRequest) {
		healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 200 * time.Millisecond, Timeout: time.Second, Retries: 1})(q)
		onUnhealthy(string(action))(q)
	}
}

// busy lets goroutines do so many things each.
func (r *rig) busy(seed, workers uint64, things int) {
	done := make(chan struct{})
	for worker := range workers {
		go func() {
			rnd := rand.New(rand.NewPCG(seed, worker))
			for range things {
				r.anything(rnd)
				time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
			}
			done <- struct{}{}
		}()
	}
	for range workers {
		<-done
	}
}

// anything does one thing to one of a few containers.
func (r *rig) anything(rnd *rand.Rand) {
	name := fmt.Sprintf("no%d", rnd.IntN(4))
	wait := time.Duration(rnd.IntN(3)) * time.Second
	ctx := r.t.Context()
	var err error
	switch what := rnd.IntN(27); what {
	case 0, 1:
		opts := []option{named(name), [...]option{autoRemove, policy(moss.RestartAlways, 0), policy(moss.RestartOnFailure, 2), published}[rnd.IntN(4)]}
		if rnd.IntN(2) == 0 {
			opts = append(opts, checked([...]moss.UnhealthyAction{moss.UnhealthyRestart, moss.UnhealthyRestart, moss.UnhealthyStop, moss.UnhealthyKill}[rnd.IntN(4)]))
		}
		if rnd.IntN(2) == 0 {
			r.makeSecret(moss.KindSecret, "db", "geheim")
			opts = append(opts, withSomeVolumes(rnd))
		}
		_, err = r.tryCreate(opts...)
	case 2, 3, 4:
		err = r.Containers().Start(ctx, name)
	case 5:
		err = r.Containers().Stop(ctx, name, moss.StopOptions{Timeout: &wait, Signal: "HUP"})
	case 6:
		err = r.Containers().Restart(ctx, name, moss.StopOptions{Timeout: &wait})
	case 7:
		err = r.Signals().Kill(ctx, name, [...]syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGHUP}[rnd.IntN(3)])
	case 8:
		err = r.remove(moss.ContainerID(name), rnd.IntN(2) == 0)
	case 9, 10:
		if c, err := r.Views().Get(name); err == nil {
			r.units.Exit(c.ID, rnd.IntN(2))
		}
	case 11:
		x, execErr := r.Execs().Create(ctx, name, moss.ExecConfig{Cmd: []string{"sleep", "inf"}})
		if execErr == nil {
			execErr = r.Execs().Start(ctx, string(x), true, moss.TermSize{}, moss.AttachIO{}, func() {})
		}
		err = execErr
	case 12, 13, 14, 15:
		err = r.anythingWithFiles(rnd, what, name)
	case 16, 17:
		err = r.anythingWithImages(rnd)
	case 18:
		err = r.Containers().Rename(ctx, name, fmt.Sprintf("no%d", rnd.IntN(6)))
		if err != nil && moss.ClassOf(err) == moss.Invalid { // its own name
			err = nil
		}
	case 22, 23:
		_, err = r.Containers().Update(ctx, name, moss.ContainerUpdate{Resources: moss.Resources{Memory: int64(1+rnd.IntN(3)) << 30}})
	case 24, 25, 26:
		err = r.anythingWithVolumes(rnd, name)
	case 20:
		err = r.Containers().Pause(ctx, name)
	case 21:
		err = r.Containers().Unpause(ctx, name)
	case 19:
		_, err = r.Containers().Prune(ctx, moss.PruneFilter{Until: time.Now().Add(-time.Duration(rnd.IntN(5)) * time.Second)})
	}
	switch moss.ClassOf(err) {
	case moss.Conflict, moss.NotFound, moss.NotModified:
	default:
		if err != nil && r.faults.alive() {
			r.t.Errorf("%s: %v", name, err)
		}
	}
}

func (r *rig) anythingWithFiles(rnd *rand.Rand, what int, name string) error {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Duration(50+rnd.IntN(2000))*time.Millisecond)
	defer cancel()
	var err error
	switch what {
	case 12, 13:
		_, err = r.FileService().Commit(ctx, moss.CommitRequest{Container: name, Reference: "made", Pause: rnd.IntN(4) > 0})
	case 14:
		var tree io.ReadCloser
		if tree, err = r.FileService().Export(ctx, name); err == nil {
			_, err = io.Copy(io.Discard, tree)
			err = errors.Join(err, tree.Close())
		}
	case 15:
		_, err = r.System().Usage(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (r *rig) anythingWithImages(rnd *rand.Rand) error {
	ctx := r.t.Context()
	ref := [...]string{"box", string(imageID), "made"}[rnd.IntN(3)]
	var err error
	switch rnd.IntN(4) {
	case 0:
		_, err = r.ImageService().Remove(ctx, ref, rnd.IntN(2) == 0, false)
	case 1:
		all := false
		_, err = r.ImageService().Prune(ctx, moss.ImageFilter{Dangling: &all})
	case 2:
		err = r.ImageService().Tag(ctx, ref, "box")
	case 3:
		r.addImage()
	}
	return err
}

// checkStories wants every container's events to make sense: a run begins once
// and ends once, and nothing comes after the end of all.
func (r *rig) checkStories() {
	r.t.Helper()
	stories := map[string][]string{}
	r.must(r.System().Events(r.t.Context(), time.Time{}, time.Time{}, func(e moss.Event) error {
		if e.Type != moss.ContainerEvent || e.Action == "prune" {
			return nil
		}
		stories[e.ActorID] = append(stories[e.ActorID], e.Action)
		return nil
	}))
	for id, story := range stories {
		runs, still, gone := false, false, false
		for n, action := range story {
			wrong := n > 0 == (action == "create")
			switch action {
			case "start":
				wrong, runs = wrong || runs || gone, true
			case "die":
				wrong, runs, still = wrong || !runs || gone, false, false
			case "pause":
				wrong, still = wrong || !runs || still, true
			case "unpause":
				wrong, still = wrong || !still, false
			case "kill":
				wrong = wrong || !runs || gone
			case "destroy":
				wrong, gone = wrong || runs || gone, true
			}
			if wrong {
				r.t.Errorf("%s: %q does not fit at %d of %q", id[:12], action, n, story)
				break
			}
		}
		c, err := r.Views().Get(id)
		if gone != (err != nil) || err == nil && (c.State.Alive() != runs || (c.State == moss.StatePaused) != still) {
			r.t.Errorf("%s is %s, its events are %q", id[:12], c.State, story)
		}
	}
	synctest.Wait()
}
