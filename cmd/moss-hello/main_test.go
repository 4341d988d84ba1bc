package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

func TestPage(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler(func() time.Time { return now }).ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"moss", name, "192.0.2.1:1234", "2026-05-06T07:08:09Z"} {
		if w := get("GET", "/"); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("the page (%d) lacks %q: %s", w.Code, want, w.Body)
		}
	}
	for path, code := range map[string]int{"GET /x": 404, "POST /": 405, "HEAD /": 200} {
		method, p, _ := strings.Cut(path, " ")
		if w := get(method, p); w.Code != code || (method == "HEAD" && w.Body.Len() > 0) {
			t.Errorf("%s gives %d, %q", path, w.Code, w.Body)
		}
	}
}

func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(l) }()
	res, err := http.Get("http://" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || !strings.Contains(string(b), "It runs in moss") {
		t.Errorf("answer %d, %v: %s", res.StatusCode, err, b)
	}
	_ = res.Body.Close()
	_ = l.Close()
	if err := <-done; err == nil {
		t.Error("serve ends without an error when its listener is closed")
	}
}
