package porttest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// TransfersFixture is an empty store of images with an empty registry beside it.
type TransfersFixture struct {
	ImagesFixture
	Transfers engine.ImageTransfers
	Registry  Registry
	// Another is a further empty store with the same registry.
	Another func(t *testing.T) TransfersFixture
}

// ImageTransfers tests an [engine.ImageTransfers].
func ImageTransfers(t *testing.T, open func(t *testing.T) TransfersFixture) {
	t.Run("pull", func(t *testing.T) { transfersPull(t, open(t)) })
	t.Run("pull by digest", func(t *testing.T) { transfersByDigest(t, open(t)) })
	t.Run("pull of a moved tag", func(t *testing.T) { transfersMoved(t, open(t)) })
	t.Run("pull all tags", func(t *testing.T) { transfersAll(t, open(t)) })
	t.Run("pull of an index", func(t *testing.T) { transfersIndex(t, open(t)) })
	t.Run("pull of nothing", func(t *testing.T) { transfersNothing(t, open(t)) })
	t.Run("pull that is cancelled", func(t *testing.T) { transfersCancelled(t, open(t)) })
	t.Run("pulls at once", func(t *testing.T) { transfersAtOnce(t, open(t)) })
	t.Run("push", func(t *testing.T) { transfersPush(t, open(t)) })
	t.Run("push all tags", func(t *testing.T) { transfersPushAll(t, open(t)) })
	t.Run("push of nothing", func(t *testing.T) { transfersPushNothing(t, open(t)) })
}

func pull(t *testing.T, f TransfersFixture, q moss.PullRequest) ([]moss.PulledImage, []string, error) {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	got, err := f.Transfers.Pull(t.Context(), q, func(p moss.Progress) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, strings.TrimPrefix(p.ID+": "+p.Status, ": "))
	})
	return got, lines, err
}

func wantPulled(t *testing.T, f TransfersFixture, q moss.PullRequest, want moss.PulledImage) []string {
	t.Helper()
	got, lines, err := pull(t, f, q)
	must(t, err)
	if len(got) != 1 || got[0] != want {
		t.Errorf("Pull of %s gives %+v, want %+v", q.Ref, got, want)
	}
	wantResolves(t, f.ImagesFixture, q.Ref, want.ID)
	return lines
}

func transfersPull(t *testing.T, f TransfersFixture) {
	digest := Publish(t, f.Registry, "some/box", "1", busybox)
	ref := f.Registry.Host() + "/some/box:1"
	want := moss.PulledImage{Ref: ref, ID: busybox.ID(t), Digest: digest, New: true}
	lines := wantPulled(t, f, moss.PullRequest{Ref: ref}, want)
	end := []string{"Digest: " + digest, "Status: Downloaded newer image for " + ref}
	if len(lines) < 3 || lines[0] != "1: Pulling from some/box" || !slices.Equal(lines[len(lines)-2:], end) {
		t.Errorf("progress is %q", lines)
	}
	wantResolves(t, f.ImagesFixture, f.Registry.Host()+"/some/box@"+digest, want.ID)
	im, err := f.Images.Resolve(t.Context(), ref)
	must(t, err)
	if !slices.Equal(im.Names, []string{ref}) || !slices.Equal(im.Digests, []string{f.Registry.Host() + "/some/box@" + digest}) || len(im.LayerSizes) != 2 || im.Config.Labels["a"] != "b" {
		t.Errorf("image is %+v", im)
	}
	want.New = false
	lines = wantPulled(t, f, moss.PullRequest{Ref: ref}, want)
	if lines[len(lines)-1] != "Status: Image is up to date for "+ref {
		t.Errorf("progress is %q", lines)
	}
	wantImages(t, f.ImagesFixture, 1)
	// What was removed comes again.
	must(t, f.Images.Untag(t.Context(), ref))
	_, err = f.Images.Delete(t.Context(), want.ID)
	must(t, err)
	want.New = true
	wantPulled(t, f, moss.PullRequest{Ref: ref}, want)
	wantImages(t, f.ImagesFixture, 1)
}

func transfersByDigest(t *testing.T, f TransfersFixture) {
	digest := Publish(t, f.Registry, "box", "1", busybox)
	Publish(t, f.Registry, "box", "1", other) // no tag has it any more
	ref := f.Registry.Host() + "/box@" + digest
	wantPulled(t, f, moss.PullRequest{Ref: ref}, moss.PulledImage{Ref: ref, ID: busybox.ID(t), Digest: digest, New: true})
	im, err := f.Images.Resolve(t.Context(), ref)
	must(t, err)
	if len(im.Names) != 0 || !slices.Equal(im.Digests, []string{ref}) {
		t.Errorf("image is %+v", im)
	}
}

func transfersMoved(t *testing.T, f TransfersFixture) {
	ref := f.Registry.Host() + "/box:1"
	first := Publish(t, f.Registry, "box", "1", busybox)
	wantPulled(t, f, moss.PullRequest{Ref: ref}, moss.PulledImage{Ref: ref, ID: busybox.ID(t), Digest: first, New: true})
	second := Publish(t, f.Registry, "box", "1", other)
	wantPulled(t, f, moss.PullRequest{Ref: ref}, moss.PulledImage{Ref: ref, ID: other.ID(t), Digest: second, New: true})
	im, err := f.Images.Resolve(t.Context(), string(busybox.ID(t)))
	must(t, err)
	if len(im.Names) != 0 || len(im.Digests) != 1 {
		t.Errorf("the image that lost its tag is %+v", im)
	}
}

func transfersAll(t *testing.T, f TransfersFixture) {
	for tag, im := range map[string]ArchiveImage{"1": busybox, "2": other, "latest": other} {
		Publish(t, f.Registry, "box", tag, im)
	}
	got, _, err := pull(t, f, moss.PullRequest{Ref: f.Registry.Host() + "/box", All: true})
	must(t, err)
	if len(got) != 3 {
		t.Errorf("Pull gives %+v", got)
	}
	for tag, im := range map[string]ArchiveImage{"1": busybox, "2": other, "latest": other} {
		wantResolves(t, f.ImagesFixture, f.Registry.Host()+"/box:"+tag, im.ID(t))
	}
	wantImages(t, f.ImagesFixture, 2)
}

func transfersIndex(t *testing.T, f TransfersFixture) {
	arm := other
	arm.Architecture = "arm64"
	digest := PublishIndex(t, f.Registry, "box", "latest", busybox, arm)
	ref := f.Registry.Host() + "/box:latest"
	wantPulled(t, f, moss.PullRequest{Ref: ref, Platform: "linux/arm64"}, moss.PulledImage{Ref: ref, ID: arm.ID(t), Digest: digest, New: true})
	wantPulled(t, f, moss.PullRequest{Ref: ref, Platform: "linux/amd64"}, moss.PulledImage{Ref: ref, ID: busybox.ID(t), Digest: digest, New: true})
	_, _, err := pull(t, f, moss.PullRequest{Ref: ref, Platform: "linux/s390x"})
	if moss.ClassOf(err) != moss.NotFound || !strings.Contains(err.Error(), "no matching manifest for linux/s390x") {
		t.Errorf("Pull of a platform that is not there is %v", err)
	}
	wantResolves(t, f.ImagesFixture, ref, busybox.ID(t))
}

func transfersNothing(t *testing.T, f TransfersFixture) {
	Publish(t, f.Registry, "box", "1", busybox)
	for _, q := range []moss.PullRequest{
		{Ref: f.Registry.Host() + "/box:2"},
		{Ref: f.Registry.Host() + "/none:latest"},
		{Ref: f.Registry.Host() + "/none", All: true},
		{Ref: f.Registry.Host() + "/box@sha256:" + strings.Repeat("0", 64)},
	} {
		if got, _, err := pull(t, f, q); moss.ClassOf(err) != moss.NotFound || len(got) != 0 {
			t.Errorf("Pull of %s is %+v, %v; want not found", q.Ref, got, err)
		}
	}
	wantImages(t, f.ImagesFixture, 0)
}

func transfersCancelled(t *testing.T, f TransfersFixture) {
	Publish(t, f.Registry, "box", "1", busybox)
	ref := f.Registry.Host() + "/box:1"
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	_, err := f.Transfers.Pull(ctx, moss.PullRequest{Ref: ref}, func(moss.Progress) { once.Do(cancel) })
	cancel()
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Pull is %v", err)
	}
	if _, found := f.Images.Resolve(t.Context(), ref); (found == nil) != (err == nil) {
		t.Errorf("Pull is %v, and the image: %v", err, found)
	}
	_, _, err = pull(t, f, moss.PullRequest{Ref: ref})
	must(t, err)
	wantResolves(t, f.ImagesFixture, ref, busybox.ID(t))
	wantImages(t, f.ImagesFixture, 1)
}

func transfersAtOnce(t *testing.T, f TransfersFixture) {
	digest := Publish(t, f.Registry, "box", "1", busybox)
	ref := f.Registry.Host() + "/box:1"
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			got, err := f.Transfers.Pull(t.Context(), moss.PullRequest{Ref: ref}, func(moss.Progress) {})
			if err != nil || len(got) != 1 || got[0].ID != busybox.ID(t) || got[0].Digest != digest {
				t.Errorf("Pull is %+v, %v", got, err)
			}
		})
	}
	wg.Wait()
	wantImages(t, f.ImagesFixture, 1)
}

func push(t *testing.T, f TransfersFixture, q moss.PushRequest) ([]moss.PushedImage, error) {
	t.Helper()
	return f.Transfers.Push(t.Context(), q, func(moss.Progress) {})
}

func transfersPush(t *testing.T, f TransfersFixture) {
	load(t, f.ImagesFixture, busybox)
	ref := f.Registry.Host() + "/mine/box:3"
	_, err := f.Images.Tag(t.Context(), busybox.ID(t), ref)
	must(t, err)
	var digest string
	for range 2 { // the second time everything is there
		got, err := push(t, f, moss.PushRequest{Ref: ref})
		must(t, err)
		m := f.Registry.Manifest(t, "mine/box", "3")
		if len(got) != 1 || got[0] != (moss.PushedImage{Tag: "3", Digest: "sha256:" + Sum(m), Size: int64(len(m))}) {
			t.Fatalf("Push gives %+v, and at the registry is %s", got, m)
		}
		digest = got[0].Digest
	}
	there := f.Another(t)
	wantPulled(t, there, moss.PullRequest{Ref: ref}, moss.PulledImage{Ref: ref, ID: busybox.ID(t), Digest: digest, New: true})
	if _, err := push(t, f, moss.PushRequest{Ref: ref, Platform: "linux/s390x"}); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Push of another platform is %v, want not found", err)
	}
}

func transfersPushAll(t *testing.T, f TransfersFixture) {
	load(t, f.ImagesFixture, busybox, other)
	name := f.Registry.Host() + "/box"
	for tag, im := range map[string]ArchiveImage{"1": busybox, "2": other} {
		_, err := f.Images.Tag(t.Context(), im.ID(t), name+":"+tag)
		must(t, err)
	}
	got, err := push(t, f, moss.PushRequest{Ref: name, All: true})
	must(t, err)
	var tags []string
	for _, p := range got {
		tags = append(tags, p.Tag)
		if p.Digest != "sha256:"+Sum(f.Registry.Manifest(t, "box", p.Tag)) {
			t.Errorf("%+v is not what is at the registry", p)
		}
	}
	if slices.Sort(tags); !slices.Equal(tags, []string{"1", "2"}) {
		t.Errorf("Push gives %+v", got)
	}
}

func transfersPushNothing(t *testing.T, f TransfersFixture) {
	load(t, f.ImagesFixture, busybox)
	name := f.Registry.Host() + "/none"
	for _, q := range []moss.PushRequest{{Ref: name + ":1"}, {Ref: name, All: true}} {
		got, err := push(t, f, q)
		if moss.ClassOf(err) != moss.NotFound || len(got) != 0 || !strings.Contains(err.Error(), "An image does not exist locally with the tag: "+name) {
			t.Errorf("Push of %s is %+v, %v", q.Ref, got, err)
		}
	}
}
