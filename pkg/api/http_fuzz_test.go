package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzHTTP sends anything to every route: no panic, and a failure is the client's
// or says what cannot be done, as {"message": …}.
func FuzzHTTP(f *testing.F) {
	for i, r := range routes() {
		f.Add(uint16(i), "c1", `filters={"a":{"b":true}}&t=1&since=1&h=2&w=3`, []byte(`{"Name":"x","Cmd":["a"]}`))
		if strings.Contains(r.path, "create") || strings.Contains(r.path, "connect") {
			f.Add(uint16(i), "c1", "", []byte(`{"Name":"n","Container":"c1","EndpointConfig":{"Links":["a:b"],"IPAMConfig":{"IPv4Address":"10.0.0.1"}},"IPAM":{"Config":[{"Subnet":"10.0.0.0/8"}]},"Labels":{"a":"b"}}`))
		}
	}
	f.Fuzz(func(t *testing.T, row uint16, name, query string, body []byte) {
		all := routes()
		r := all[int(row)%len(all)]
		if strings.Contains(r.path, "attach") || strings.Contains(r.path, "exec") && strings.HasSuffix(r.path, "start") || strings.Contains(r.path, "debug") {
			return // they take the connection over
		}
		path := strings.NewReplacer("{id}", name, "{name}", name).Replace(r.path)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond) // of those that follow
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, r.method, "http://moss/v1.50/x", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Path, req.URL.RawQuery = "/v1.50"+path, query
		req.Header.Set("Content-Type", "application/json")
		s, w := newFake()
		if _, _, err := (fakeContainers{w}).Create(ctx, CreateRequest{Name: "c1", Config: moss.ContainerConfig{Image: "busybox"}}); err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, req)
		if rec.Code < 400 || r.method == head {
			return
		}
		var failure struct{ Message *string }
		if err := json.Unmarshal(rec.Body.Bytes(), &failure); err != nil || failure.Message == nil {
			t.Errorf("%s %s?%s: %d %q", r.method, path, query, rec.Code, rec.Body)
		}
		if rec.Code == http.StatusInternalServerError && ctx.Err() == nil {
			t.Errorf("%s %s?%s %q: %d %s", r.method, path, query, body, rec.Code, rec.Body)
		}
	})
}

func FuzzEndpoint(f *testing.F) {
	f.Add([]byte(`{"IPAMConfig":{"IPv4Address":"10.0.0.1","LinkLocalIPs":["169.254.0.1"]},"Links":["a:b"],"Aliases":["x"],"MacAddress":"02:00:00:00:00:01","DriverOpts":{"a":"b"},"GwPriority":-5}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var e network.EndpointSettings
		if json.Unmarshal(body, &e) != nil {
			return
		}
		end, err := endpointOf(&e)
		if err != nil {
			if c := moss.ClassOf(err); c != moss.Invalid && c != moss.NotImplemented {
				t.Errorf("%v is %v", err, c)
			}
			return
		}
		c := &moss.Container{Name: "c", Host: moss.HostConfig{NetworkMode: "n"}, Endpoints: map[string]moss.Endpoint{"n": end}}
		if _, err := json.Marshal(encodeEndpoints(c)); err != nil {
			t.Error(err)
		}
	})
}
