package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// remote speaks the API straight: a client process for each of thousands of
// requests would be most of what a test takes.
type remote struct{ http *http.Client }

func newRemote() *remote {
	return &remote{&http.Client{
		Timeout: 2 * time.Minute,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 32,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", suite.sock)
			},
		},
	}}
}

// apiError is an answer that is no success.
type apiError struct {
	Status  int
	Message string
}

func (e *apiError) Error() string { return fmt.Sprintf("%d: %s", e.Status, e.Message) }

// statusOf is the answer's status: 200 for a success, 0 where there was no answer.
func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.Status
	}
	return 0
}

// call makes one request; body and answer are JSON, a []byte body is a tar, and
// a *[]byte takes the answer as it is.
func (r *remote) call(method, path string, body, answer any) error {
	var in io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		in, kind = bytes.NewReader(b), "application/x-tar"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://moss"+path, in)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", kind)
	}
	res, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode == http.StatusNotModified:
		return &apiError{Status: res.StatusCode}
	case res.StatusCode >= 300:
		var said struct{ Message string }
		if json.Unmarshal(text, &said) != nil {
			said.Message = string(text)
		}
		return &apiError{res.StatusCode, said.Message}
	}
	switch a := answer.(type) {
	case nil:
		return nil
	case *[]byte:
		*a = text
		return nil
	default:
		return json.Unmarshal(text, a)
	}
}

// spec is what containers are made of here.
type spec struct {
	Image        string
	Cmd          []string
	Labels       map[string]string   `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	StopTimeout  *int                `json:",omitempty"`
	HostConfig   hostSpec
}

type hostSpec struct {
	Runtime       string                         `json:",omitempty"`
	NetworkMode   string                         `json:",omitempty"`
	AutoRemove    bool                           `json:",omitempty"`
	RestartPolicy map[string]any                 `json:",omitempty"`
	PortBindings  map[string][]map[string]string `json:",omitempty"`
}

// seen is what inspect tells and is of interest here.
type seen struct {
	ID           string `json:"Id"`
	Name         string
	RestartCount int
	State        struct {
		Status     string
		Pid        int
		ExitCode   int
		OOMKilled  bool
		Dead       bool
		Error      string
		StartedAt  time.Time
		FinishedAt time.Time
	}
	HostConfig struct {
		AutoRemove    bool
		RestartPolicy struct{ Name string }
	}
	NetworkSettings struct {
		Ports map[string][]struct{ HostIP, HostPort string }
	}
}

func (r *remote) create(name string, s spec) (string, error) {
	var made struct{ ID string }
	path := "/containers/create"
	if name != "" {
		path += "?name=" + name
	}
	err := r.call("POST", path, s, &made)
	return made.ID, err
}

func (r *remote) inspect(ref string) (s seen, err error) {
	err = r.call("GET", "/containers/"+ref+"/json", nil, &s)
	s.Name = strings.TrimPrefix(s.Name, "/")
	return s, err
}

// sideBySide calls fn for each number below n, several at a time, and joins the errors.
func sideBySide(n int, fn func(i int) error) error {
	var (
		wg    sync.WaitGroup
		errs  = make([]error, n)
		slots = make(chan struct{}, 16)
	)
	for i := range n {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = fn(i)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
