package plugins

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"
)

// FuzzSpec: what a plugin's file says where it listens is refused, or can be connected to.
func FuzzSpec(f *testing.F) {
	f.Add("tcp://127.0.0.1:8080\n", false)
	f.Add("unix:///run/x.sock", false)
	f.Add(`{"Name":"x","Addr":"https://example.com","TLSConfig":{"InsecureSkipVerify":true,"CAFile":""}}`, true)
	f.Fuzz(func(t *testing.T, text string, isJSON bool) {
		path := filepath.Join(t.TempDir(), "x.spec")
		if isJSON {
			path = filepath.Join(filepath.Dir(path), "x.json")
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at, err := readSpec(path)
		if err != nil {
			return
		}
		at.tlsConfig = tlsConfig{} // its files are not ours to read
		if c, err := newClient("x", at); err != nil || c.base == "" {
			t.Errorf("%q: %v", at.address, err)
		}
	})
}

// answers is a plugin that always says the same.
type answers struct {
	status int
	body   []byte
}

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a.body))}, nil
}

// FuzzAnswer: whatever a plugin answers, it is decoded or is an error that can be shown.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"Volumes":[{"Name":"a","Mountpoint":"/m","Status":{"a":1}}],"Err":""}`))
	f.Add(500, []byte(`{"Err":"full"}`))
	f.Add(404, []byte("404 page not found\xff"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := &client{name: "x", base: "http://" + nobody, http: &http.Client{Transport: answers{status, body}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
		var out struct {
			Err     string
			Volumes []struct {
				Name, Mountpoint string
				Status           map[string]any
			}
		}
		if err := c.call(t.Context(), "VolumeDriver.List", map[string]string{"a": "b"}, &out); err == nil && status != http.StatusOK {
			t.Errorf("status %d is no error", status)
		} else if err != nil && status != http.StatusOK && (len(err.Error()) > 2*maxWords || !utf8.ValidString(err.Error())) {
			t.Errorf("%q", err)
		}
	})
}
