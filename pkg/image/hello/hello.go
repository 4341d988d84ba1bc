// Package hello is the image that comes with moss: a static web server of one
// page (cmd/moss-hello), embedded at build time, so that a first container
// needs neither a registry nor an archive.
package hello

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

//go:generate go run gen.go

// The directory holds a file that tells what it is for, so that the package
// compiles before go generate has run.
//
//go:embed all:files
var files embed.FS

const program = "files/moss-hello.gz"

// Name is the image's name as a user types it.
const Name = "moss/hello"

// Created is the date that the image bears. It is fixed: the same program
// makes the same image id.
var Created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Config says how the image runs.
func Config() moss.ContainerConfig {
	return moss.ContainerConfig{
		Entrypoint:   []string{"/moss-hello"},
		ExposedPorts: []moss.Port{{Number: 80, Proto: moss.TCP}},
		Env:          []string{"PATH=/"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       Name,
			"org.opencontainers.image.description": "A web server that tells where it runs",
			"org.opencontainers.image.licenses":    "Apache-2.0",
		},
	}
}

// WriteLayer writes the image's one layer as a tar. Errors: Unavailable where
// the program was left out of the build.
func WriteLayer(w io.Writer) error {
	z, err := files.ReadFile(program)
	if err != nil {
		return moss.Errorf(moss.Unavailable, "this mossd was built without the image %s: build it with make build", Name)
	}
	gz, err := gzip.NewReader(bytes.NewReader(z))
	if err != nil {
		return fmt.Errorf("embedded %s: %w", program, err)
	}
	// RFC 1952: the last four bytes are the size of the contents.
	size := int64(binary.LittleEndian.Uint32(z[len(z)-4:]))
	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(&tar.Header{Name: "moss-hello", Typeflag: tar.TypeReg, Mode: 0o755, Size: size, ModTime: Created, Format: tar.FormatPAX}); err != nil {
		return err
	}
	if _, err := io.Copy(tw, gz); err != nil {
		return fmt.Errorf("embedded %s: %w", program, err)
	}
	return errors.Join(gz.Close(), tw.Close())
}
