package secret_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/secret"
)

// service stands in for systemd-creds' varlink service: it answers each call by fn.
func service(t *testing.T, fn func(method string, p map[string]string) string) *secret.Credentials {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				text, err := bufio.NewReader(conn).ReadBytes(0)
				if err != nil {
					return
				}
				var call struct {
					Method     string
					Parameters map[string]string
				}
				if json.Unmarshal(text[:len(text)-1], &call) != nil {
					return
				}
				if answer := fn(call.Method, call.Parameters); answer != "" {
					_, _ = conn.Write(append([]byte(answer), 0))
				}
			}()
		}
	}()
	return secret.NewCredentials(socket)
}

func TestCredentials(t *testing.T) {
	c := service(t, func(method string, p map[string]string) string {
		switch {
		case p["scope"] != "user" || p["name"] != "id1":
			return `{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"scope"}}`
		case method == "io.systemd.Credentials.Encrypt":
			return `{"parameters":{"blob":"sealed/` + p["data"] + `"}}`
		case method == "io.systemd.Credentials.Decrypt":
			return `{"parameters":{"data":"` + strings.TrimPrefix(p["blob"], "sealed/") + `"}}`
		}
		return ""
	})
	data := string([]byte{0, 1, 0xff}) + strings.Repeat("long", 100<<10)
	blob, err := c.Seal(t.Context(), "id1", []byte(data))
	if err != nil || !strings.HasPrefix(blob, "sealed/AAH/") {
		t.Fatalf("%.30s %v", blob, err)
	}
	back, err := c.Unseal(t.Context(), "id1", blob)
	if err != nil || string(back) != data {
		t.Errorf("%.30q %v", back, err)
	}
	_, err = c.Unseal(t.Context(), "id2", blob)
	if err == nil || !strings.Contains(err.Error(), "org.varlink.service.InvalidParameter") {
		t.Error("refused:", err)
	}
}

func TestCredentialsMissing(t *testing.T) {
	old := service(t, func(string, map[string]string) string {
		return `{"error":"org.varlink.service.MethodNotFound","parameters":{}}`
	})
	for _, c := range []*secret.Credentials{none, old} {
		if _, err := c.Seal(t.Context(), "id1", []byte("x")); !errors.Is(err, secret.ErrNoSealer) {
			t.Error("seal:", err)
		}
		if _, err := c.Unseal(t.Context(), "id1", "x"); err == nil || moss.ClassOf(err) != moss.Unavailable {
			t.Error("unseal:", err)
		}
	}
	dumb := service(t, func(string, map[string]string) string { return "" })
	if _, err := dumb.Seal(t.Context(), "id1", []byte("x")); err == nil || errors.Is(err, secret.ErrNoSealer) {
		t.Error("no answer:", err)
	}
	hold := make(chan struct{})
	defer close(hold)
	slow := service(t, func(string, map[string]string) string { <-hold; return "" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := slow.Seal(ctx, "id1", []byte("x")); !errors.Is(err, context.Canceled) {
		t.Error("cancelled:", err)
	}
}

// systemd drops what one user has beyond 16 connections: so few are made, and
// what is dropped all the same is tried again.
func TestCredentialsDropped(t *testing.T) {
	var mu sync.Mutex
	tries := map[string]int{}
	now, most := 0, 0
	c := service(t, func(_ string, p map[string]string) string {
		mu.Lock()
		now++
		most = max(most, now)
		tries[p["name"]]++
		drop := tries[p["name"]] <= 2
		mu.Unlock()
		defer func() { mu.Lock(); now--; mu.Unlock() }()
		if drop {
			return ""
		}
		return `{"parameters":{"blob":"x"}}`
	})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := c.Seal(t.Context(), strconv.Itoa(i), []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most > 16 {
		t.Errorf("%d calls at a time", most)
	}
}
