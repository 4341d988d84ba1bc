package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/moss-containers/moss/pkg/moss"
)

// fakeCopies has one path, /f, whose tar is the text that was last written to
// it; what is written to /slow waits for the client to go.
type fakeCopies struct{ *world }

func (f fakeCopies) find(ref, path string) error {
	if ref != "one" {
		return moss.Errorf(moss.NotFound, "No such container: %s", ref)
	}
	if path != "/f" && path != "/slow" {
		return moss.Errorf(moss.NotFound, "Could not find the file %s in container %s", path, ref)
	}
	return nil
}

var fakeStat = moss.PathStat{Name: "f", Size: 4, Mode: fs.ModeSymlink | 0o777, ModTime: time.Unix(1e9, 0).UTC(), LinkTarget: "/g"}

func (f fakeCopies) Stat(_ context.Context, ref, path string) (moss.PathStat, error) {
	return fakeStat, f.find(ref, path)
}

func (f fakeCopies) Pack(_ context.Context, ref, path string) (moss.PathStat, io.ReadCloser, error) {
	if err := f.find(ref, path); err != nil {
		return moss.PathStat{}, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	text, _ := f.asked.(string)
	return fakeStat, io.NopCloser(strings.NewReader(text)), nil
}

func (f fakeCopies) Unpack(ctx context.Context, ref, path string, r io.Reader, keepKinds, asUser bool) error {
	if err := f.find(ref, path); err != nil {
		return err
	}
	if path == "/slow" {
		go func() { _, _ = io.Copy(io.Discard, r) }()
		return moss.Errorf(moss.Conflict, "removed meanwhile")
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = string(text)
	if keepKinds {
		f.asked = f.asked.(string) + " kept"
	}
	if asUser {
		f.asked = f.asked.(string) + " owned"
	}
	return ctx.Err()
}

func (f fakeCopies) Changes(_ context.Context, ref string) ([]moss.Change, error) {
	if err := f.find(ref, "/f"); err != nil {
		return nil, err
	}
	return []moss.Change{{Path: "/f", Kind: moss.Modified}, {Path: "/g", Kind: moss.Added}, {Path: "/h", Kind: moss.Deleted}}, nil
}

func TestCopyRoutes(t *testing.T) {
	s, _ := newFake()
	for _, tc := range []struct {
		method, path string
		status       int
		text         string
	}{
		{put, "/containers/one/archive?path=/f&noOverwriteDirNonDir=1&copyUIDGID=true", 200, ""},
		{get, "/containers/one/archive?path=/f", 200, "text kept owned"},
		{put, "/containers/one/archive?path=/f&noOverwriteDirNonDir=false", 200, ""},
		{get, "/v1.24/containers/one/archive?path=/f", 200, "text"},
		{get, "/containers/one/archive?path=/none", 404, `{"message":"Could not find the file /none in container one"}`},
		{head, "/containers/one/archive?path=/none", 404, ""},
		{put, "/containers/one/archive?path=/none", 404, "Could not find the file /none in container one"},
		{get, "/containers/nobody/archive?path=/f", 404, "No such container: nobody"},
		{get, "/containers/one/archive", 400, "bad parameter"},
		{head, "/containers/one/archive?path=", 400, ""},
		{put, "/containers/one/archive", 400, "bad parameter"},
		{get, "/containers/one/changes", 200, `[{"Kind":0,"Path":"/f"},{"Kind":1,"Path":"/g"},{"Kind":2,"Path":"/h"}]`},
		{get, "/containers/nobody/changes", 404, "No such container: nobody"},
	} {
		w := do(t, s, tc.method, tc.path, "", "text")
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.text) {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, w.Code, w.Body)
		}
	}
	for _, method := range []string{get, head} {
		w := do(t, s, method, "/containers/one/archive?path=/f", "", "")
		raw, err := base64.StdEncoding.DecodeString(w.Header().Get("X-Docker-Container-Path-Stat"))
		var got map[string]any
		if err = errors.Join(err, json.Unmarshal(raw, &got)); err != nil {
			t.Fatal(err)
		}
		if got["name"] != "f" || got["size"] != 4.0 || got["mode"] != float64(fs.ModeSymlink|0o777) || got["mtime"] != "2001-09-09T01:46:40Z" || got["linkTarget"] != "/g" {
			t.Errorf("%s: %s", method, raw)
		}
	}
}

// A client that stands still gets its answer all the same.
func TestPutThatFailsEarly(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	body, sender := io.Pipe()
	defer sender.Close()
	go func() { _, _ = io.Copy(sender, strings.NewReader(strings.Repeat("x", 1<<20))) }()
	_, err := c.CopyToContainer(t.Context(), "one", client.CopyToContainerOptions{DestinationPath: "/slow", Content: body})
	if err == nil || !strings.Contains(err.Error(), "removed meanwhile") {
		t.Error(err)
	}
	// The next request finds all in order.
	_, err = c.CopyToContainer(t.Context(), "one", client.CopyToContainerOptions{DestinationPath: "/f", Content: bytes.NewReader([]byte("x"))})
	if err != nil {
		t.Error(err)
	}
	got, err := c.CopyFromContainer(t.Context(), "one", client.CopyFromContainerOptions{SourcePath: "/f"})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Content.Close()
	if text, err := io.ReadAll(got.Content); err != nil || string(text) != "x kept" || got.Stat.LinkTarget != "/g" {
		t.Errorf("%q, %+v, %v", text, got.Stat, err)
	}
}

// So does one whose request is refused before its body is read.
func TestRefusalIsNotHeldUpByTheBody(t *testing.T) {
	socket, _ := serve(t)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "POST /containers/nobody/nothing HTTP/1.1\r\nHost: moss\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %s", resp.Status)
	}
}
