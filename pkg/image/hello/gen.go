//go:build ignore

// The generator builds cmd/moss-hello for the target of the build and puts it,
// compressed, where package hello embeds it.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot build the image moss/hello:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "moss-hello-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "moss-hello")
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", bin, "github.com/moss-containers/moss/cmd/moss-hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		return err
	}
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	const out = "files/moss-hello.gz"
	if old, err := os.ReadFile(out); err == nil && bytes.Equal(old, z.Bytes()) {
		return nil // an unchanged file keeps the build cache
	}
	if err := os.WriteFile(out+".new", z.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(out+".new", out)
}
