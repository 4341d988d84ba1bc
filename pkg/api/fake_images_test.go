package api

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

type (
	fakeImages     struct{ *world }
	fakeArchives   struct{ *world }
	fakeTransfers  struct{ *world }
	fakeRegistries struct{ *world }
	fakeFiles      struct{ *world }
	fakeUsage      struct{ *world }
)

// removeAsked, attestationsAsked and distributionAsked are arguments, for tests to compare.
type (
	removeAsked struct {
		ref          string
		force, prune bool
	}
	attestationsAsked struct {
		ref, platform string
		types         string
	}
	distributionAsked struct {
		ref string
		c   moss.Credentials
	}
)

func (w *world) ask(v any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = v
}

func (w *world) lastAsked() any {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.asked
	w.asked = nil
	return v
}

var ones = strings.Repeat("1", 64)

var busybox = moss.Image{
	ID:    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	Names: []string{"docker.io/library/busybox:latest", "docker.io/me/tools:1"}, Created: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC),
	Size: 4321, Architecture: "amd64", OS: "linux", DiffIDs: []string{"sha256:aa"}, Digest: "sha256:" + ones,
	Config:  moss.ContainerConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}, Labels: map[string]string{"kind": "tools"}, ExposedPorts: []moss.Port{{Number: 80, Proto: moss.TCP}}},
	Digests: []string{"docker.io/library/busybox@sha256:" + ones}, MediaType: "application/vnd.oci.image.manifest.v1+json", ManifestSize: 610,
	History: []moss.HistoryEntry{{Created: time.Unix(1, 0), CreatedBy: "ADD file"}, {Created: time.Unix(2, 0), CreatedBy: `CMD ["sh"]`, EmptyLayer: true}},
}

func (f fakeImages) Get(_ context.Context, ref string) (moss.Image, error) {
	if ref != "busybox" && ref != "me/tools:1" {
		return moss.Image{}, moss.Errorf(moss.NotFound, "No such image: %s", ref)
	}
	return busybox, nil
}

func (f fakeImages) List(context.Context) ([]moss.Image, error) {
	dangling := moss.Image{ID: "sha256:dd", Created: time.Date(2023, 1, 2, 3, 4, 5, 0, time.UTC), Size: 1}
	return []moss.Image{dangling, busybox}, nil
}

func (f fakeImages) Tag(_ context.Context, ref, name string) error {
	f.ask([2]string{ref, name})
	return nil
}

func (f fakeImages) Remove(_ context.Context, ref string, force, prune bool) ([]moss.ImageRemoval, error) {
	f.ask(removeAsked{ref, force, prune})
	return []moss.ImageRemoval{{Untagged: "docker.io/library/busybox:latest"}, {Deleted: busybox.ID}}, nil
}

func (f fakeImages) Prune(_ context.Context, q moss.ImageFilter) (moss.ImagePruned, error) {
	f.ask(q)
	if *q.Dangling {
		return moss.ImagePruned{}, nil
	}
	return moss.ImagePruned{Removed: []moss.ImageRemoval{{Untagged: "docker.io/library/busybox:latest"}, {Deleted: busybox.ID}}, Reclaimed: 4321}, nil
}

func (f fakeArchives) Load(_ context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error) {
	f.ask(o)
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil || string(head) != "good" {
		return nil, moss.Errorf(moss.Invalid, "not an image archive")
	}
	progress(moss.Progress{Status: "layer 1"})
	n, err := io.Copy(io.Discard, r)
	progress(moss.Progress{Status: strconv.FormatInt(n, 10) + " bytes more"})
	return []moss.LoadedImage{{ID: busybox.ID, Name: "busybox:latest"}, {ID: "sha256:dd"}}, err
}

func (f fakeArchives) Import(_ context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error) {
	f.ask(o)
	_, err := io.Copy(io.Discard, r)
	return moss.LoadedImage{ID: "sha256:imported", Name: o.Reference}, err
}

// Save sends half an archive of "torn", and nothing of what is not there.
func (f fakeArchives) Save(_ context.Context, r moss.SaveRequest, w io.Writer) error {
	f.ask(r)
	switch r.Refs[0] {
	case "none":
		return moss.Errorf(moss.NotFound, "No such image: none")
	case "torn":
		_, _ = w.Write(make([]byte, archiveBuffer+1))
		return errors.New("the disk is broken")
	}
	_, err := io.WriteString(w, "the tar of "+strings.Join(r.Refs, " "))
	return err
}

func (f fakeArchives) Attestations(_ context.Context, ref, platform string, types []string) ([]moss.Attestation, error) {
	f.ask(attestationsAsked{ref, platform, strings.Join(types, " ")})
	if ref != "busybox" {
		return nil, nil
	}
	return []moss.Attestation{{PredicateType: "https://slsa.dev/provenance/v1", MediaType: "application/vnd.in-toto+json", Digest: "sha256:" + ones, Statement: []byte(`{"_type":"s"}`)}}, nil
}

// Pull knows busybox; of "late" it loses the network half-way, "slow" lasts
// until its client leaves, and "flood" tells more than fits into a socket.
func (f fakeTransfers) Pull(ctx context.Context, r moss.PullRequest, progress func(moss.Progress)) ([]moss.PulledImage, error) {
	f.ask(r)
	name, tag, _ := strings.Cut(strings.TrimPrefix(r.Ref, "docker.io/library/"), ":")
	switch name {
	case "other":
		return nil, moss.Errorf(moss.NotFound, "manifest for other:1 not found: manifest unknown: manifest unknown")
	case "secret":
		return nil, moss.Errorf(moss.Unauthorized, "unauthorized: authentication required")
	}
	progress(moss.Progress{ID: tag, Status: "Pulling from library/" + name})
	progress(moss.Progress{ID: "0123456789ab", Status: "Pulling fs layer"})
	switch name {
	case "slow":
		for n := int64(1); ctx.Err() == nil; n++ {
			progress(moss.Progress{ID: "0123456789ab", Status: "Downloading", Current: n, Total: 1 << 40})
		}
		f.left <- struct{}{}
		return nil, ctx.Err()
	case "flood":
		for n := range 20000 {
			progress(moss.Progress{ID: strconv.Itoa(n), Status: "Waiting"})
		}
		f.left <- struct{}{}
		return nil, nil
	case "late":
		return nil, moss.Errorf(moss.Unavailable, "the network is down")
	}
	for n := range int64(1000) {
		progress(moss.Progress{ID: "0123456789ab", Status: "Downloading", Current: n + 1, Total: 1000})
	}
	progress(moss.Progress{ID: "0123456789ab", Status: "Pull complete"})
	progress(moss.Progress{Status: "Digest: sha256:" + ones})
	progress(moss.Progress{Status: "Status: Downloaded newer image for " + name + ":" + tag})
	return []moss.PulledImage{{Ref: r.Ref, ID: busybox.ID, New: true}}, nil
}

func (f fakeTransfers) Push(_ context.Context, r moss.PushRequest, progress func(moss.Progress)) ([]moss.PushedImage, error) {
	f.ask(r)
	if r.Credentials.Username != "me" {
		return nil, moss.Errorf(moss.Unauthorized, "unauthorized: authentication required")
	}
	progress(moss.Progress{Status: "The push refers to repository [" + r.Ref + "]"})
	return []moss.PushedImage{{Tag: "latest", Digest: "sha256:" + ones, Size: 528}}, nil
}

func (f fakeRegistries) Login(_ context.Context, c moss.Credentials) (moss.Login, error) {
	f.ask(c)
	if c.Password != "right" {
		return moss.Login{}, moss.Errorf(moss.Unauthorized, "unauthorized: incorrect username or password")
	}
	return moss.Login{Status: "Login Succeeded", IdentityToken: "token"}, nil
}

func (f fakeRegistries) Search(_ context.Context, q moss.SearchQuery) ([]moss.SearchResult, error) {
	f.ask(q)
	return []moss.SearchResult{{Name: "busybox", Description: "small", Stars: 3, Official: true}}, nil
}

func (f fakeRegistries) Distribution(_ context.Context, ref string, c moss.Credentials) (moss.Distribution, error) {
	f.ask(distributionAsked{ref, c})
	return moss.Distribution{
		MediaType: "application/vnd.oci.image.index.v1+json", Digest: "sha256:" + ones, Size: 7, Platforms: []string{"linux/amd64", "linux/arm/v7"},
	}, nil
}

func (f fakeFiles) Commit(_ context.Context, r moss.CommitRequest) (moss.ImageID, error) {
	f.ask(r)
	if r.Container == "nobody" {
		return "", moss.Errorf(moss.NotFound, "No such container: nobody")
	}
	return "sha256:committed", nil
}

func (f fakeFiles) Export(_ context.Context, ref string) (io.ReadCloser, error) {
	f.ask(ref)
	switch ref {
	case "nobody":
		return nil, moss.Errorf(moss.NotFound, "No such container: nobody")
	case "broken":
		return io.NopCloser(errReader{}), nil
	}
	return io.NopCloser(strings.NewReader("the tree of " + ref)), nil
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("the disk is broken") }

var fakeDiskUsage = moss.DiskUsage{
	Images: []moss.ImageUsage{
		{Image: busybox, SharedSize: 21, Copies: 4000, Containers: 1},
		{Image: moss.Image{ID: "sha256:dd", Created: time.Date(2023, 1, 2, 3, 4, 5, 0, time.UTC), Size: 1000}, SharedSize: 100},
	},
	LayersSize: 6000, Unused: 50,
	Containers: []moss.ContainerUsage{
		{Container: moss.Container{ID: "c1", Name: "up", Path: "sh", State: moss.StateRunning, Image: busybox.ID, Created: noon, Run: moss.Run{StartedAt: noon}, Host: moss.HostConfig{NetworkMode: moss.NetworkNone}}, Written: 10, Total: 4331},
		{Container: moss.Container{ID: "c2", Name: "down", Path: "sh", State: moss.StateExited, Created: noon, Run: moss.Run{FinishedAt: noon}, Host: moss.HostConfig{NetworkMode: moss.NetworkNone}}, Written: 7, Total: 8},
	},
}

func (f fakeUsage) Usage(context.Context) (moss.DiskUsage, error) {
	f.ask("usage")
	return fakeDiskUsage, nil
}
