package hello

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestLayer(t *testing.T) {
	var a, b bytes.Buffer
	err := WriteLayer(&a)
	if moss.ClassOf(err) == moss.Unavailable {
		t.Skip(err)
	}
	if err := errors.Join(err, WriteLayer(&b)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the layer is not the same twice")
	}
	tr := tar.NewReader(&a)
	h, err := tr.Next()
	if err != nil || h.Name != "moss-hello" || h.Mode != 0o755 {
		t.Fatalf("the first file is %+v, %v", h, err)
	}
	bin, err := io.ReadAll(tr)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := elf.NewFile(bytes.NewReader(bin))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range exe.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program is not static")
		}
	}
	z, err := files.ReadFile(program)
	if err != nil || len(z) > 3<<20 {
		t.Errorf("it takes %d bytes in the binary, %v", len(z), err)
	}
}
