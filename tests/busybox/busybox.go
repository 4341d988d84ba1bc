// Package busybox makes the image most tests run: Debian's static busybox and
// links to it, in one layer, as a docker-archive. It needs no network.
package busybox

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Tag is the name the image is loaded under.
const Tag = "busybox:latest"

// epoch makes equal archives of equal programs.
var epoch = time.Unix(1_700_000_000, 0).UTC()

// Find looks for a static busybox: beside the built binaries, where `make
// deps` unpacks one, then on the machine.
func Find() (string, error) {
	for _, p := range []string{filepath.Join(os.Getenv("MOSS_BIN"), "tools/busybox"), "/bin/busybox", "/usr/bin/busybox"} {
		f, err := elf.Open(p)
		if err != nil {
			continue
		}
		static := true
		for _, prog := range f.Progs {
			static = static && prog.Type != elf.PT_INTERP
		}
		f.Close()
		if static {
			return p, nil
		}
	}
	return "", errors.New("no static busybox: make deps gets one")
}

// WriteArchive writes the image as `docker save` would.
func WriteArchive(w io.Writer) error {
	layer, err := Layer()
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": epoch,
		"config": map[string]any{
			"Cmd": []string{"sh"},
			"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
		"history": []any{map[string]any{"created": epoch, "created_by": "busybox"}},
	})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": name, "RepoTags": []string{Tag}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		data []byte
	}{{"layer.tar", layer}, {name, config}, {"manifest.json", manifest}} {
		if err := add(tw, tar.Header{Name: f.name, Mode: 0o644, Typeflag: tar.TypeReg}, f.data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// WriteFile writes the archive to a file.
func WriteFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(WriteArchive(f), f.Close())
}

// Layer is its one layer, a tar.
func Layer() ([]byte, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(bin, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list busybox's applets: %w", err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var"} {
		mode := int64(0o755)
		if d == "tmp" {
			mode = 0o1777
		}
		if err := add(tw, tar.Header{Name: d + "/", Mode: mode, Typeflag: tar.TypeDir}, nil); err != nil {
			return nil, err
		}
	}
	if err := add(tw, tar.Header{Name: "bin/busybox", Mode: 0o755, Typeflag: tar.TypeReg}, program); err != nil {
		return nil, err
	}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet == "busybox" {
			continue
		}
		link := tar.Header{Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777, Typeflag: tar.TypeSymlink}
		if err := add(tw, link, nil); err != nil {
			return nil, err
		}
	}
	for _, f := range [][2]string{
		{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{"etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n"},
	} {
		if err := add(tw, tar.Header{Name: f[0], Mode: 0o644, Typeflag: tar.TypeReg}, []byte(f[1])); err != nil {
			return nil, err
		}
	}
	err = tw.Close()
	return buf.Bytes(), err
}

func add(tw *tar.Writer, h tar.Header, data []byte) error {
	h.ModTime, h.Size = epoch, int64(len(data))
	if err := tw.WriteHeader(&h); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}
