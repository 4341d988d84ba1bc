package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

const (
	boxName   = "docker.io/library/box:latest"
	boxDigest = "docker.io/library/box@sha256:" + hex64
	otherRepo = "registry.example.com/box@sha256:" + hex64
	hex64     = "2222222222222222222222222222222222222222222222222222222222222222"
)

// pulled makes the image one that has digests too.
func pulled(digests ...string) func(r *rig) {
	return func(r *rig) {
		im, err := r.images.Resolve(r.t.Context(), "box")
		r.must(err)
		im.Digests = digests
		r.images.Add(im)
	}
}

func TestDigestsGoWithTheLastTagOfTheirRepository(t *testing.T) {
	untag := func(name string) moss.ImageRemoval { return moss.ImageRemoval{Untagged: name} }
	deleted := moss.ImageRemoval{Deleted: imageID}
	for title, c := range map[string]struct {
		prepare []func(r *rig)
		ref     string
		force   bool
		class   moss.Class
		want    []moss.ImageRemoval
	}{
		"by name":             {prepare: []func(*rig){pulled(boxDigest)}, ref: "box", want: []moss.ImageRemoval{untag(boxName), untag(boxDigest), deleted}},
		"by id":               {prepare: []func(*rig){pulled(boxDigest)}, ref: "1111", want: []moss.ImageRemoval{untag(boxName), untag(boxDigest), deleted}},
		"another's digest":    {prepare: []func(*rig){pulled(otherRepo)}, ref: "box", want: []moss.ImageRemoval{untag(boxName)}},
		"another's, by id":    {prepare: []func(*rig){pulled(otherRepo)}, ref: "1111", class: moss.Conflict},
		"another tag is left": {prepare: []func(*rig){pulled(boxDigest), func(r *rig) { r.must(r.ImageService().Tag(r.t.Context(), "box", "box:2")) }}, ref: "box", want: []moss.ImageRemoval{untag(boxName)}},
		"by digest":           {prepare: []func(*rig){pulled(boxDigest)}, ref: "box@sha256:" + hex64, want: []moss.ImageRemoval{untag(boxDigest)}},
		"by tag and digest":   {prepare: []func(*rig){pulled(boxDigest)}, ref: "box:latest@sha256:" + hex64, want: []moss.ImageRemoval{untag(boxDigest)}},
		"in use":              {prepare: []func(*rig){pulled(boxDigest), created}, ref: "box", class: moss.Conflict},
		"in use, by force":    {prepare: []func(*rig){pulled(boxDigest), created}, ref: "box", force: true, want: []moss.ImageRemoval{untag(boxName), untag(boxDigest)}},
	} {
		t.Run(title, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				for _, p := range c.prepare {
					p(r)
				}
				got, err := r.ImageService().Remove(t.Context(), c.ref, c.force, false)
				if c.class != 0 {
					r.wantClass(err, c.class)
				} else {
					r.must(err)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("%+v, want %+v", got, c.want)
				}
			})
		})
	}
}

func TestRefusalsToRemoveAnImage(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		refused := func(ref string, force bool, format string, args ...any) {
			t.Helper()
			_, err := r.ImageService().Remove(t.Context(), ref, force, false)
			r.wantClass(err, moss.Conflict)
			if want := fmt.Sprintf(format, args...); err != nil && err.Error() != want {
				t.Errorf("%q, want %q", err, want)
			}
		}
		id := r.create(named("web"))
		refused("box", false, `conflict: unable to remove repository reference "box" (must force) - container %s is using its referenced image 111111111111`, id.Short())
		refused("1111", false, "conflict: unable to delete 111111111111 (must be forced) - image is being used by stopped container %s", id.Short())
		r.start(id)
		refused("1111", false, "conflict: unable to delete 111111111111 (cannot be forced) - image is being used by running container %s", id.Short())
		refused("1111", true, "conflict: unable to delete 111111111111 (cannot be forced) - image is being used by running container %s", id.Short())
		r.must(r.stop(id))
		second(r)
		refused("1111", false, "conflict: unable to delete 111111111111 (must be forced) - image is referenced in multiple repositories")

		// By force it loses its names, and the container keeps what it stands on.
		got, err := r.ImageService().Remove(t.Context(), "1111", true, false)
		r.must(err)
		if len(got) != 2 {
			t.Errorf("%+v", got)
		}
		refused("1111", true, "conflict: unable to delete 111111111111 (cannot be forced) - stopped container %s is made of its layers: remove that container first", id.Short())
		r.start(id)
		r.check()
		r.must(r.remove(id, true))
		pruned, err := r.ImageService().Prune(t.Context(), moss.ImageFilter{})
		r.must(err)
		if len(pruned.Removed) != 1 || pruned.Removed[0].Deleted != imageID {
			t.Errorf("%+v", pruned)
		}
		_, err = r.ImageService().Remove(t.Context(), "1111", false, false)
		if r.wantClass(err, moss.NotFound); err.Error() != "No such image: 1111:latest" {
			t.Error(err)
		}
	})
}

func TestARemovalThatFailsTellsWhatItDid(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.images.Fail("Delete", errInjected)
		got, err := r.ImageService().Remove(t.Context(), "box", false, false)
		if !errors.Is(err, errInjected) || len(got) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		r.images.Fail("Delete", nil)
		if got, err = r.ImageService().Remove(t.Context(), "1111", false, false); err != nil || len(got) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// story is the image events so far: action, actor and attributes.
func (r *rig) story() []string {
	r.t.Helper()
	var all []string
	r.must(r.System().Events(r.t.Context(), time.Time{}, time.Time{}, func(e moss.Event) error {
		if e.Type == moss.ImageEvent {
			all = append(all, fmt.Sprintln(e.Action, e.ActorID, e.Attributes))
		}
		if e.Time.IsZero() {
			r.t.Errorf("%+v has no time", e)
		}
		return nil
	}))
	return all
}

func TestImageEvents(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		ctx, quiet := t.Context(), func(moss.Progress) {}
		id := string(porttest.Busybox().ID(t))
		_, err := r.ArchiveService().Load(ctx, bytes.NewReader(porttest.DockerArchive(t, porttest.Busybox())), moss.LoadOptions{}, quiet)
		r.must(err)
		r.must(r.ImageService().Tag(ctx, "busybox", "registry.example.com/mine"))
		_, err = r.TransferService().Push(ctx, moss.PushRequest{Ref: "registry.example.com/mine:latest"}, quiet)
		r.must(err)
		r.must(r.ArchiveService().Save(ctx, moss.SaveRequest{Refs: []string{"busybox"}}, new(bytes.Buffer)))
		_, err = r.ImageService().Remove(ctx, id, true, false)
		r.must(err)
		_, err = r.TransferService().Pull(ctx, moss.PullRequest{Ref: "registry.example.com/mine:latest"}, quiet)
		r.must(err)
		_, err = r.ImageService().Prune(ctx, moss.ImageFilter{Dangling: new(bool)})
		r.must(err)
		size := len(porttest.Tar(t, porttest.Busybox().Layers[0]...)) + len(porttest.Tar(t, porttest.Busybox().Layers[1]...))
		named, byID := "map[a:b name:%s]\n", fmt.Sprintf("map[a:b name:%s]\n", id)
		want := []string{
			"load " + id + " " + byID,
			"tag " + id + " " + fmt.Sprintf(named, "registry.example.com/mine:latest"),
			"push registry.example.com/mine:latest " + fmt.Sprintf(named, "registry.example.com/mine"),
			"save " + id + " " + byID,
			"untag " + id + " " + byID, "untag " + id + " " + byID, "untag " + id + " " + byID,
			"delete " + id + " map[name:" + id + "]\n",
			"pull registry.example.com/mine:latest " + fmt.Sprintf(named, "registry.example.com/mine"),
			"untag " + imageIDString + " map[name:" + imageIDString + " of:box]\n",
			"delete " + imageIDString + " map[name:" + imageIDString + "]\n",
			"untag " + id + " " + byID, "untag " + id + " " + byID, // the tag and the digest
			"delete " + id + " map[name:" + id + "]\n",
			fmt.Sprintf("prune  map[reclaimed:%d]\n", size),
		}
		got := r.story()
		// The order of a prune is the store's own.
		tail := len(want) - 6
		slices.Sort(want[tail:])
		if len(got) == len(want) {
			slices.Sort(got[tail:])
		}
		if !slices.Equal(got, want) {
			t.Errorf("events\n%s\nwant\n%s", strings.Join(got, ""), strings.Join(want, ""))
		}
	})
}

const imageIDString = string(imageID)

func TestPruneImages(t *testing.T) {
	yes, no := true, false
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	image := func(n int, names ...string) moss.Image {
		return moss.Image{
			ID: moss.ImageID(fmt.Sprintf("sha256:%064d", n)), Names: names, OS: "linux", Created: now.Add(-time.Duration(n) * time.Hour),
			Config: moss.ContainerConfig{Labels: map[string]string{"n": fmt.Sprint(n), "all": ""}}, Size: 11,
			DiffIDs: []string{"sha256:base", fmt.Sprintf("sha256:%d", n)}, LayerSizes: []int64{10, 1},
		}
	}
	for title, c := range map[string]struct {
		f         moss.ImageFilter
		used      bool // the first one, by a container
		want      []int
		reclaimed int64
	}{
		"dangling":           {want: []int{1, 2}, reclaimed: 2},
		"dangling, said":     {f: moss.ImageFilter{Dangling: &yes}, want: []int{1, 2}, reclaimed: 2},
		"all":                {f: moss.ImageFilter{Dangling: &no}, want: []int{1, 2, 3}, reclaimed: 13},
		"all but one in use": {f: moss.ImageFilter{Dangling: &no}, used: true, want: []int{2, 3}, reclaimed: 2},
		"label":              {f: moss.ImageFilter{Dangling: &no, Labels: []string{"all", "n=3"}}, want: []int{3}, reclaimed: 1},
		"no label":           {f: moss.ImageFilter{Dangling: &no, NotLabel: []string{"n=2", "x"}}, want: []int{1, 3}, reclaimed: 2},
		"until":              {f: moss.ImageFilter{Until: now.Add(-90 * time.Minute)}, want: []int{2}, reclaimed: 1},
	} {
		t.Run(title, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				id := r.create() // the image "box" is in use
				r.images.Add(image(1))
				r.images.Add(image(2))
				r.images.Add(image(3, "docker.io/library/three:latest", "docker.io/library/drei:latest"))
				r.images.Strand("sha256:half", 1000)
				if c.used {
					_, err := r.tryCreate(func(q *moss.CreateRequest) { q.Config.Image = string(image(1).ID) })
					r.must(err)
				}
				got, err := r.ImageService().Prune(t.Context(), c.f)
				r.must(err)
				var gone []int
				for _, rm := range got.Removed {
					for n := 1; n <= 3; n++ {
						if rm.Deleted == image(n).ID {
							gone = append(gone, n)
						}
					}
				}
				slices.Sort(gone)
				if !slices.Equal(gone, c.want) || got.Reclaimed != c.reclaimed+1000 {
					t.Errorf("%v with %d bytes are gone, want %v with %d: %+v", gone, got.Reclaimed, c.want, c.reclaimed+1000, got)
				}
				left, err := r.ImageService().List(t.Context())
				r.must(err)
				if len(left) != 4-len(c.want) {
					t.Errorf("%d images are left", len(left))
				}
				r.start(id)
				r.check()
			})
		})
	}
}

func TestPruneGoesOnWhereOneImageFails(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		second := moss.Image{ID: "sha256:" + hex64, OS: "linux"}
		r.images.Add(second)
		r.faults.arm(0, -1) // the first Untag, or Delete
		got, err := r.ImageService().Prune(t.Context(), moss.ImageFilter{Dangling: new(bool)})
		r.faults.disarm()
		r.must(err)
		left, err := r.ImageService().List(t.Context())
		r.must(err)
		if len(left) != 1 || len(got.Removed) == 0 {
			t.Errorf("%d are left, %+v", len(left), got)
		}
		r.images.Fail("Collect", errInjected)
		if _, err = r.ImageService().Prune(t.Context(), moss.ImageFilter{}); !errors.Is(err, errInjected) {
			t.Error(err)
		}
	})
}

func TestDiskUsage(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		image := func(n int, diffs ...string) moss.Image {
			im := moss.Image{ID: moss.ImageID(fmt.Sprintf("sha256:%064d", n)), OS: "linux", DiffIDs: diffs}
			for range diffs {
				im.LayerSizes = append(im.LayerSizes, 100)
				im.Size += 100
			}
			return im
		}
		// a and b share the base; c has the same difference on another base, which is another layer.
		a, b, c := image(1, "sha256:base", "sha256:top"), image(2, "sha256:base"), image(3, "sha256:x", "sha256:top")
		unknown := moss.Image{ID: "sha256:" + hex64, Size: 7, DiffIDs: []string{"sha256:base"}}
		for _, im := range []moss.Image{a, b, c, unknown} {
			r.images.Add(im)
		}
		r.images.Strand("sha256:half", 1000)
		var last moss.ContainerID
		for range 10 {
			var err error
			last, err = r.tryCreate(func(q *moss.CreateRequest) { q.Config.Image = string(a.ID) })
			r.must(err)
		}
		r.writeFile(last, "new", "five\n")
		r.images.Copy(a.ID)
		r.images.Copy(unknown.ID)()
		u, err := r.System().Usage(t.Context())
		ids := []moss.ContainerID{"nobody"}
		for _, c := range u.Containers {
			ids = append(ids, c.Container.ID)
		}
		sizes, sizesErr := r.Views().Sizes(t.Context(), ids)
		for _, c := range u.Containers {
			if got := sizes[c.Container.ID]; sizesErr != nil || got.Written != c.Written || got.Total != c.Total || got.Total == 0 || len(sizes) != len(u.Containers) {
				t.Errorf("%s: %+v, want %+v; %v", c.Container.Name, got, c, sizesErr)
			}
		}
		r.must(err)
		if u.LayersSize != 607 || u.Unused != 1007 || len(u.Images) != 5 || len(u.Containers) != 10 {
			t.Errorf("%d bytes, %d unused, %d images, %d containers", u.LayersSize, u.Unused, len(u.Images), len(u.Containers))
		}
		for _, i := range u.Images {
			want := map[moss.ImageID][2]int64{a.ID: {100, 10}, b.ID: {100, 0}, c.ID: {0, 0}}[i.Image.ID]
			if (i.Copies == 200) != (i.Image.ID == a.ID) || i.SharedSize != want[0] || int64(i.Containers) != want[1] {
				t.Errorf("%s: %d bytes shared, %d containers", i.Image.ID, i.SharedSize, i.Containers)
			}
		}
		for _, x := range u.Containers {
			want := int64(0)
			if x.Container.ID == last {
				want = 5
			}
			if x.Written != want || x.Total != want+200 {
				t.Errorf("%s: %d written, %d in all", x.Container.Name, x.Written, x.Total)
			}
		}
		r.rootfs.Fail("Written", errInjected)
		if _, err := r.System().Usage(t.Context()); !errors.Is(err, errInjected) {
			t.Error(err)
		}
	})
}

func TestPlatformOfAnImage(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		_, err := r.tryCreate(func(q *moss.CreateRequest) { q.Platform = "linux/arm64" })
		r.wantClass(err, moss.NotFound)
		if want := "image with reference box was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		for _, ok := range []string{"", "linux", "linux/amd64"} {
			_, err := r.tryCreate(func(q *moss.CreateRequest) { q.Platform = ok })
			r.must(err)
		}
		_, err = r.ArchiveService().Attestations(t.Context(), "box", "linux/arm64", nil)
		r.wantClass(err, moss.NotFound)
		_, err = r.ArchiveService().Attestations(t.Context(), "box", "linux/amd64", nil)
		r.must(err)
	})
}

func TestPullsOfWhatComesWithMoss(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.reg.Fail("Pull", errInjected) // nobody is to be asked
		var lines []string
		pull := func(want string) {
			t.Helper()
			lines = nil
			got, err := r.TransferService().Pull(t.Context(), moss.PullRequest{Ref: "docker.io/moss/hello:latest"}, func(p moss.Progress) { lines = append(lines, p.ID+"|"+p.Status) })
			r.must(err)
			if len(got) != 1 || got[0].Ref != "docker.io/moss/hello:latest" || got[0].ID == "" || !slices.Equal(lines, []string{"latest|Pulling from moss/hello", "|Status: " + want + " for moss/hello:latest"}) {
				t.Errorf("%+v %q", got, lines)
			}
		}
		pull("Downloaded newer image")
		pull("Image is up to date")
		_, err := r.TransferService().Pull(t.Context(), moss.PullRequest{Ref: "docker.io/moss/hello:latest", Platform: "linux/s390x"}, func(moss.Progress) {})
		r.wantClass(err, moss.NotFound)
		for _, q := range []moss.PullRequest{{Ref: "docker.io/library/busybox:latest"}, {Ref: "docker.io/moss/hello", All: true}} {
			if _, err := r.TransferService().Pull(t.Context(), q, func(moss.Progress) {}); !errors.Is(err, errInjected) {
				t.Errorf("%+v: %v", q, err)
			}
		}
	})
}

func TestRegistries(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		ctx, s := t.Context(), r.RegistryService()
		r.reg.Require("me", "secret")
		r.reg.Offer(moss.SearchResult{Name: "box"})
		good := moss.Credentials{Username: "me", Password: "secret"}
		_, err := s.Login(ctx, moss.Credentials{Username: "me"})
		r.wantClass(err, moss.Unauthorized)
		if l, err := s.Login(ctx, good); err != nil || l.Status != "Login Succeeded" {
			t.Errorf("%+v %v", l, err)
		}
		if found, err := s.Search(ctx, moss.SearchQuery{Term: "bo", Credentials: good}); err != nil || len(found) != 1 {
			t.Errorf("%+v %v", found, err)
		}
		_, err = s.Distribution(ctx, "registry.example.com/none", good)
		r.wantClass(err, moss.NotFound)
		info, err := r.System().Info(ctx)
		if err != nil || len(info.Registry.Insecure) == 0 {
			t.Errorf("%+v %v", info.Registry, err)
		}
	})
}

// Containers are made of an image while it is removed, pruned, tagged and brought
// again. Whoever gets a container gets its image with it.
func TestContainersAreNotMadeOfImagesThatGo(t *testing.T) {
	r := newRig(t, false)
	ctx := t.Context()
	allow := func(err error) {
		if class := moss.ClassOf(err); err != nil && class != moss.NotFound && class != moss.Conflict {
			t.Error(err)
		}
	}
	var wg, makers sync.WaitGroup
	done := make(chan struct{})
	again := func(fn func()) {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					fn()
				}
			}
		})
	}
	again(func() { _, err := r.ImageService().Remove(ctx, "box", false, false); allow(err) })
	again(func() { _, err := r.ImageService().Remove(ctx, imageIDString, true, false); allow(err) })
	again(func() { _, err := r.ImageService().Prune(ctx, moss.ImageFilter{Dangling: new(bool)}); allow(err) })
	again(func() { allow(r.ImageService().Tag(ctx, "box", "other")) })
	again(r.addImage)
	made := make([]int, 4)
	for i := range made {
		makers.Go(func() {
			for made[i] < 30 {
				id, err := r.tryCreate()
				allow(err)
				if err != nil {
					if !strings.HasPrefix(err.Error(), "No such image: ") {
						t.Error("docker's clients would not pull:", err)
					}
					continue
				}
				made[i]++
				c := r.get(id)
				if _, err := r.images.Resolve(ctx, string(c.Image)); err != nil {
					t.Errorf("a container is made of what is gone: %v", err)
				}
				r.must(r.remove(id, false))
			}
		})
	}
	makers.Wait()
	close(done)
	wg.Wait()
	r.checkEmpty()
}

func TestWhoRemovesAnImageWaitsForWhoMakesAContainerOfIt(t *testing.T) {
	for name, remove := range map[string]func(r *rig) error{
		"by name": func(r *rig) error { _, err := r.ImageService().Remove(r.t.Context(), "box", false, false); return err },
		"by id":   func(r *rig) error { _, err := r.ImageService().Remove(r.t.Context(), "1111", false, false); return err },
		"prune": func(r *rig) error {
			p, err := r.ImageService().Prune(r.t.Context(), moss.ImageFilter{Dangling: new(bool)})
			if err == nil && len(p.Removed) == 0 {
				err = moss.Errorf(moss.Conflict, "nothing to prune")
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.layering = time.Second
				made := make(chan error)
				go func() { _, err := r.tryCreate(); made <- err }()
				synctest.Wait()
				r.wantClass(remove(r), moss.Conflict)
				r.must(<-made)
				if im, err := r.images.Resolve(t.Context(), "box"); err != nil || len(im.Names) != 1 {
					t.Errorf("%+v %v", im, err)
				}
			})
			bubble(t, func(t *testing.T, r *rig) {
				r.deleting = time.Second
				removed := make(chan error)
				go func() { removed <- remove(r) }()
				synctest.Wait()
				_, err := r.tryCreate()
				if r.wantClass(err, moss.NotFound); err == nil || !strings.HasPrefix(err.Error(), "No such image: box") {
					t.Error("docker's clients would not pull:", err)
				}
				r.must(<-removed)
				r.checkEmpty()
			})
			bubble(t, func(t *testing.T, r *rig) { // who waits for its turn can leave
				r.layering = time.Hour
				go func() { _, _ = r.tryCreate() }()
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := r.ImageService().Remove(ctx, "box", false, false); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				settle()
				time.Sleep(time.Hour)
			})
		})
	}
}
