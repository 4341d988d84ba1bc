package busybox_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/moss-containers/moss/tests/busybox"
)

func TestArchive(t *testing.T) {
	var one, two bytes.Buffer
	if err := errors.Join(busybox.WriteArchive(&one), busybox.WriteArchive(&two)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two archives of one program differ")
	}
	var layer []string
	for tr := tar.NewReader(&one); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "layer.tar" {
			continue
		}
		for lr := tar.NewReader(tr); ; {
			h, err := lr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			layer = append(layer, h.Name)
		}
	}
	for _, want := range []string{"bin/busybox", "bin/sh", "bin/sha256sum", "etc/passwd", "tmp/"} {
		if !slices.Contains(layer, want) {
			t.Errorf("the layer lacks %s", want)
		}
	}
}
