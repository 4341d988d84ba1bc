package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestClientImages(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	list, err := c.ImageList(t.Context(), client.ImageListOptions{
		Filters: client.Filters{}.Add("reference", "busy*").Add("dangling", "false").Add("label", "kind"), SharedSize: true, Manifests: true, Identity: true,
	})
	if err != nil || len(list.Items) != 1 || list.Items[0].RepoTags[0] != "busybox:latest" || list.Items[0].Size != busybox.Size {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if one := list.Items[0]; one.SharedSize != 21 || len(one.Manifests) != 1 || one.Manifests[0].ID != busybox.Digest ||
		one.Manifests[0].ImageData.Identity.Pull[0].Repository != "docker.io/library/busybox" {
		t.Errorf("list: %+v", one)
	}
	if _, err := c.ImageInspect(t.Context(), "me/tools:1"); err != nil {
		t.Errorf("inspect of a name with a slash: %v", err)
	}
	in, err := c.ImageInspect(t.Context(), "busybox", client.ImageInspectWithManifests(true))
	if err != nil || len(in.Manifests) != 1 || in.Descriptor.Size != 610 || in.Identity == nil {
		t.Errorf("inspect: %+v, %v", in, err)
	}
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	if _, err := c.ImageInspect(t.Context(), "busybox", client.ImageInspectWithPlatform(&arm)); !cerrdefs.IsNotFound(err) {
		t.Errorf("inspect of another platform: %v", err)
	}
	h, err := c.ImageHistory(t.Context(), "busybox", client.ImageHistoryWithPlatform(ocispec.Platform{OS: "linux", Architecture: "amd64"}))
	if err != nil || len(h.Items) != 2 || h.Items[0].ID != string(busybox.ID) || h.Items[1].Size != busybox.Size {
		t.Errorf("history: %+v, %v", h, err)
	}
	pruned, err := c.ImagePrune(t.Context(), client.ImagePruneOptions{Filters: client.Filters{}.Add("dangling", "false")})
	if err != nil || len(pruned.Report.ImagesDeleted) != 2 || pruned.Report.SpaceReclaimed != 4321 {
		t.Errorf("prune: %+v, %v", pruned, err)
	}
	a, err := c.ImageAttestations(t.Context(), "busybox", client.ImageAttestationsWithStatement())
	if err != nil || len(a.Items) != 1 || string(*a.Items[0].Statement) != `{"_type":"s"}` || a.Items[0].Descriptor.Size != 13 {
		t.Errorf("attestations: %+v, %v", a, err)
	}
	if a, err := c.ImageAttestations(t.Context(), "me/tools:1"); err != nil || a.Items == nil || len(a.Items) != 0 {
		t.Errorf("attestations of an image without: %+v, %v", a, err)
	}
}

func TestClientArchives(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	in := "good" + strings.Repeat("x", 3<<20) // more than net/http would read on its own
	r, err := c.ImageLoad(t.Context(), strings.NewReader(in), client.ImageLoadWithPlatforms(ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	_ = r.Close()
	want := `{"status":"layer 1"}
{"status":"3145728 bytes more"}
{"stream":"Loaded image: busybox:latest\n"}
{"stream":"Loaded image ID: sha256:dd\n"}
`
	if err != nil || string(out) != want {
		t.Errorf("load: %q, %v", out, err)
	}
	if o := w.lastAsked(); o != (moss.LoadOptions{Platform: "linux/arm/v7"}) {
		t.Errorf("load was asked for %+v", o)
	}
	if _, err := c.ImageLoad(t.Context(), strings.NewReader("rubbish")); err == nil || !strings.Contains(err.Error(), "not an image archive") {
		t.Errorf("load of rubbish: %v", err)
	}
	s, err := c.ImageSave(t.Context(), []string{"busybox", "me/tools:1"})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(s); err != nil || string(out) != "the tar of busybox me/tools:1" {
		t.Errorf("save: %q, %v", out, err)
	}
	_ = s.Close()
	if _, err := c.ImageSave(t.Context(), []string{"none"}); !cerrdefs.IsNotFound(err) {
		t.Errorf("save of nothing: %v", err)
	}
	torn, err := c.ImageSave(t.Context(), []string{"torn"})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, torn); err == nil {
		t.Errorf("half an archive of %d bytes passes for a whole one", n)
	}
	_ = torn.Close()
	e, err := c.ContainerExport(t.Context(), "box", client.ContainerExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(e); err != nil || string(out) != "the tree of box" {
		t.Errorf("export: %q, %v", out, err)
	}
	_ = e.Close()
	if _, err := c.ContainerExport(t.Context(), "nobody", client.ContainerExportOptions{}); !cerrdefs.IsNotFound(err) {
		t.Errorf("export of nobody: %v", err)
	}
	if _, err := c.ContainerExport(t.Context(), "broken", client.ContainerExportOptions{}); err == nil || !strings.Contains(err.Error(), "the disk is broken") {
		t.Errorf("export that cannot be read: %v", err)
	}
}

func TestClientPull(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	p, err := c.ImagePull(t.Context(), "busybox:latest", client.ImagePullOptions{RegistryAuth: "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJwPz4ifQ=="})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	counts := 0
	for m, err := range p.JSONMessages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Status == "Downloading" {
			counts++
			if counts > 1 {
				continue
			}
		}
		all = append(all, m.ID+" "+m.Status)
		if m.Progress == nil != (m.ID == "" || m.ID == "latest") {
			t.Errorf("progress of %+v: %+v", m, m.Progress)
		}
	}
	want := []string{
		"latest Pulling from library/busybox", "0123456789ab Pulling fs layer", "0123456789ab Downloading", "0123456789ab Pull complete",
		" Digest: sha256:" + ones, " Status: Downloaded newer image for busybox:latest",
	}
	if !reflect.DeepEqual(all, want) || counts > 20 {
		t.Errorf("pull: %q, %d counts", all, counts)
	}
	if got := w.lastAsked(); got != (moss.PullRequest{Ref: "docker.io/library/busybox:latest", Credentials: moss.Credentials{Username: "me", Password: "p?>"}}) {
		t.Errorf("asked for %+v", got)
	}
	for name, is := range map[string]func(error) bool{"other:1": cerrdefs.IsNotFound, "secret": cerrdefs.IsUnauthorized} {
		if _, err := c.ImagePull(t.Context(), name, client.ImagePullOptions{}); !is(err) {
			t.Errorf("pull of %s: %v", name, err)
		}
	}
	late, err := c.ImagePull(t.Context(), "late", client.ImagePullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var e *jsonstream.Error
	if err := late.Wait(t.Context()); !errors.As(err, &e) || e.Message != "the network is down" {
		t.Errorf("an error on the way: %v", err)
	}
}

// TestClientLeavesPull: the work ends with its client, and counts are sent in steps.
func TestClientLeavesPull(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := c.ImagePull(ctx, "slow", client.ImagePullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	start, lines := time.Now(), 0
	for m, err := range p.JSONMessages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if lines++; m.Status == "Downloading" && lines > 6 {
			break
		}
	}
	if took := time.Since(start); took < 3*progressEvery {
		t.Errorf("%d lines within %v", lines, took)
	}
	cancel()
	_ = p.Close()
	select {
	case <-w.left:
	case <-time.After(time.Minute):
		t.Error("the pull goes on without its client")
	}
}

// TestSlowClient: a client that does not read holds up nothing but its own answer.
func TestSlowClient(t *testing.T) {
	socket, w := serve(t)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "POST /images/create?fromImage=flood&tag=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
	select {
	case <-w.left:
	case <-time.After(time.Minute):
		t.Fatal("the work waits for its client")
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if n := strings.Count(string(out), `"Waiting"`); err != nil || n != 20000 {
		t.Errorf("%d lines, %v", n, err)
	}
}

func TestClientPush(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	if _, err := c.ImagePush(t.Context(), "me/x", client.ImagePushOptions{}); !cerrdefs.IsUnauthorized(err) {
		t.Errorf("push without credentials: %v", err)
	}
	p, err := c.ImagePush(t.Context(), "me/x", client.ImagePushOptions{
		All: true, RegistryAuth: "eyJhdXRoIjoiYldVNmNIYz0ifQ==", Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var aux string
	for m, err := range p.JSONMessages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Aux != nil {
			aux = string(*m.Aux)
		}
	}
	if want := `{"Tag":"latest","Digest":"sha256:` + ones + `","Size":528}`; aux != want {
		t.Errorf("aux %s", aux)
	}
	want := moss.PushRequest{Ref: "docker.io/me/x", All: true, Platform: "linux/amd64", Credentials: moss.Credentials{Username: "me", Password: "pw"}}
	if got := w.lastAsked(); got != want {
		t.Errorf("asked for %+v", got)
	}
}

func TestClientRegistry(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	l, err := c.RegistryLogin(t.Context(), client.RegistryLoginOptions{Username: "me", Password: "right", ServerAddress: "registry.example.com"})
	if err != nil || l.Auth.Status != "Login Succeeded" || l.Auth.IdentityToken != "token" {
		t.Errorf("login: %+v, %v", l, err)
	}
	if _, err := c.RegistryLogin(t.Context(), client.RegistryLoginOptions{Username: "me", Password: "wrong"}); !cerrdefs.IsUnauthorized(err) {
		t.Errorf("login with a wrong password: %v", err)
	}
	found, err := c.ImageSearch(t.Context(), "busybox", client.ImageSearchOptions{Limit: 5})
	if err != nil || len(found.Items) != 1 || found.Items[0].StarCount != 3 || !found.Items[0].IsOfficial {
		t.Errorf("search: %+v, %v", found, err)
	}
	d, err := c.DistributionInspect(t.Context(), "busybox", client.DistributionInspectOptions{})
	if err != nil || d.Descriptor.Size != 7 || len(d.Platforms) != 2 || d.Platforms[1].Variant != "v7" {
		t.Errorf("distribution: %+v, %v", d, err)
	}
}

func TestClientCommit(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	id, err := c.ContainerCommit(t.Context(), "box", client.ContainerCommitOptions{
		Reference: "a/b", Comment: "why", Author: "me", Changes: []string{"CMD x", "ENV a=b"}, NoPause: true,
		Config: &container.Config{WorkingDir: "/w", Volumes: map[string]struct{}{"/v": {}}},
	})
	if err != nil || id.ID != "sha256:committed" {
		t.Errorf("commit: %+v, %v", id, err)
	}
	want := moss.CommitRequest{
		Container: "box", Reference: "docker.io/a/b:latest", Author: "me", Message: "why", Changes: []string{"CMD x", "ENV a=b"},
		Config: &moss.ContainerConfig{WorkingDir: "/w", Volumes: []string{"/v"}},
	}
	if got := w.lastAsked(); !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %+v", got)
	}
	if _, err := c.ContainerCommit(t.Context(), "box", client.ContainerCommitOptions{}); err != nil {
		t.Error(err)
	}
	if got := w.lastAsked(); !reflect.DeepEqual(got, moss.CommitRequest{Container: "box", Pause: true}) {
		t.Errorf("asked for %+v", got)
	}
	if _, err := c.ContainerCommit(t.Context(), "nobody", client.ContainerCommitOptions{}); !cerrdefs.IsNotFound(err) {
		t.Errorf("commit of nobody: %v", err)
	}
}

// TestClientDiskUsage: new and old clients come to the same sums.
func TestClientDiskUsage(t *testing.T) {
	socket, _ := serve(t)
	for _, v := range []string{"1.44", "1.51", "1.52", "1.56"} {
		c, err := client.New(client.WithHost("unix://"+socket), client.WithAPIVersion(v))
		if err != nil {
			t.Fatal(err)
		}
		u, err := c.DiskUsage(t.Context(), client.DiskUsageOptions{Images: true, Containers: true, Verbose: true})
		_ = c.Close()
		if err != nil {
			t.Fatal(err)
		}
		if i := u.Images; i.TotalCount != 2 || i.ActiveCount != 1 || i.TotalSize != 6050 || len(i.Items) != 2 || i.Items[0].SharedSize != 21 || i.Reclaimable < 900 {
			t.Errorf("%s: images %+v", v, i)
		}
		if i := u.Containers; i.TotalCount != 2 || i.ActiveCount != 1 || i.TotalSize != 17 || i.Reclaimable != 7 || len(i.Items) != 2 || i.Items[0].SizeRootFs != 4331 {
			t.Errorf("%s: containers %+v", v, i)
		}
	}
}

func TestImportURL(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/a.tar", http.StatusFound)
		case "/a.tar":
			_, _ = io.WriteString(w, "tar")
		case "/away":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	s, w := newFake()
	got := do(t, s, post, "/images/create?fromSrc="+web.URL+"/moved&repo=a", "", "")
	if got.Code != 200 || !strings.Contains(got.Body.String(), `{"status":"Downloading from `+web.URL+`/moved"}`) ||
		!strings.Contains(got.Body.String(), `{"status":"Importing","progressDetail":{"current":3,"total":3}}`) ||
		!strings.HasSuffix(got.Body.String(), `{"status":"sha256:imported"}`+"\n") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if o := w.lastAsked().(moss.ImportOptions); o.Reference != "docker.io/library/a:latest" || o.Message != "Imported from "+web.URL+"/moved" {
		t.Errorf("asked for %+v", o)
	}
	host := strings.TrimPrefix(web.URL, "http://")
	for src, want := range map[string]string{
		host + "/a.tar": `200 {"status":"Downloading`, web.URL + "/none": "404 " + `{"message":"failed to GET ` + web.URL + `/none with status 404 Not Found"}`,
		web.URL + "/away": "503 ", "ftp://x/y": "400 ", "http:///x": "400 ", "http://me:secret@127.0.0.1:1/x": `503 {"message":"failed to GET http://me:xxxxx@127.0.0.1:1/x: dial`,
	} {
		got := do(t, s, post, "/images/create?fromSrc="+src, "", "")
		if text := http.StatusText(got.Code); text == "" || !strings.HasPrefix(strings.TrimSpace(jsonCode(got)), want) || strings.Contains(got.Body.String(), "secret") {
			t.Errorf("%s: %s", src, jsonCode(got))
		}
	}
}

func jsonCode(r *httptest.ResponseRecorder) string {
	b, _ := json.Marshal(r.Code)
	return string(b) + " " + r.Body.String()
}
