package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// An engine that ends while it works on a request is no engine that was never set up.
func TestEngineHangsUp(t *testing.T) {
	e := newEngine(t, map[string]string{
		"POST /containers/c/stop": "hangs up", "GET /containers/c/logs": "hangs up", "POST /containers/c/wait": "hangs up", "GET /containers/json": "hangs up",
	})
	for _, args := range []string{"stop c", "wait c", "ps"} {
		code, _, errs := run1(t, e.env, strings.Fields(args)...)
		if code != 1 || !strings.Contains(errs, "the engine was stopped or restarted before it had answered") || strings.Contains(errs, "moss setup") {
			t.Errorf("moss %s: %d %q", args, code, errs)
		}
	}
}

// It is not the engine that hangs up where nobody reads what this program prints.
func TestReaderHangsUp(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = w.WriteString("x"); !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	if got := message(fmt.Errorf("cannot print: %w", err)); !strings.Contains(got, "broken pipe") {
		t.Errorf("said %q", got)
	}
}
