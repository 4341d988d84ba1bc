package filter

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	libseccomp "github.com/seccomp/libseccomp-golang"
)

func textOf(t testing.TB, p *specs.LinuxSeccomp) []byte {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// started is a profile after a container's first process has got its program.
func (c Cache) started(t testing.TB, text []byte) (*Profile, *Entry) {
	t.Helper()
	p, err := c.Profile(text)
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.program(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return p, e
}

// The second container with a profile gets what the first one got, which is
// the profile's program and what stands in for the profile, and nothing is
// read of the profile for it.
func TestRecall(t *testing.T) {
	for name, spec := range allSpecs(t) {
		c, text := newCache(t), textOf(t, spec)
		first, compiled := c.started(t, text)
		if first.entry != nil {
			t.Fatalf("%s: the first is kept already", name)
		}
		second, recalled := c.started(t, text)
		if second.entry == nil {
			t.Fatalf("%s: not kept", name)
		}
		if !bytes.Equal(recalled.Program, compiled.Program) || recalled.Key != compiled.Key {
			t.Errorf("%s: not the program", name)
		}
		if !reflect.DeepEqual(first.Config, second.Config) {
			t.Errorf("%s: %+v stands in for the profile at first, then %+v", name, first.Config, second.Config)
		}
		if other, err := c.Profile(append(slices.Clone(text), ' ')); err != nil || other.entry != nil {
			t.Errorf("%s: another text is taken for this one (%v)", name, err)
		}
	}
}

// What is damaged, or whose program is gone, is made anew, and kept.
func TestRecallDamaged(t *testing.T) {
	text := textOf(t, dockerSpec(t))
	cut := func(at int) func([]byte) []byte { return func(b []byte) []byte { return b[:at] } }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"empty": cut(0), "no sum": cut(len(standInMagic) + 8), "no profile": cut(len(standInMagic) + 32), "cut": cut(200),
		"magic": flip(0), "sum": flip(len(standInMagic)), "first": flip(len(standInMagic) + 32), "last": flip(-1),
		"of nothing": func([]byte) []byte {
			b, err := encodeStandIn(converted(t, dockerSpec(t)))
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		c := newCache(t)
		_, want := c.started(t, text)
		file, err := c.file(textKey(text))
		if err != nil {
			t.Fatal(err)
		}
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, spoil(slices.Clone(good)), 0o600); err != nil {
			t.Fatal(err)
		}
		again, e := c.started(t, text)
		if again.entry != nil {
			t.Errorf("%s: it is taken", name)
		}
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, good) || !bytes.Equal(e.Program, want.Program) {
			t.Errorf("%s: not made anew (%v)", name, err)
		}
	}
	c := newCache(t)
	_, want := c.started(t, text)
	file, err := c.file(want.Key)
	if err != nil || os.Remove(file) != nil {
		t.Fatal("no program was kept", err)
	}
	if _, e := c.started(t, text); !bytes.Equal(e.Program, want.Program) {
		t.Error("without its program: not made anew")
	}
}

// Containers share the file of their program, and nothing is ever written to it.
func TestProgramIsShared(t *testing.T) {
	c, text := newCache(t), textOf(t, dockerSpec(t))
	var dirs []string
	for range 2 {
		p, err := c.Profile(text)
		if err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp(filepath.Dir(c.dir), "container")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.program(dir); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	one, err1 := os.Stat(filepath.Join(dirs[0], programFile))
	two, err2 := os.Stat(filepath.Join(dirs[1], programFile))
	if err1 != nil || err2 != nil || !os.SameFile(one, two) {
		t.Errorf("not shared (%v, %v)", err1, err2)
	}
	p, err := c.Profile(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.program(dirs[0]); err == nil {
		t.Error("the program of another container is replaced")
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Fatal(err)
	}
	if e, err := kept(dirs[0], p.entry.Key); err != nil || !bytes.Equal(e.Program, p.entry.Program) {
		t.Errorf("with the cache gone, the container has no program (%v)", err)
	}
}

// Profiles that are none are refused in words, and no profile is none.
func TestProfileOfNothing(t *testing.T) {
	for _, text := range []string{"", "{}"} {
		p, err := newCache(t).Profile([]byte(text))
		if err != nil || p.Config != nil {
			t.Errorf("%q: %+v, %v", text, p, err)
			continue
		}
		if e, err := p.program(t.TempDir()); e != nil || err != nil {
			t.Errorf("%q has the program %v, %v", text, e, err)
		}
	}
	for _, text := range []string{`[]`, `{"defaultAction":1}`, `{"defaultAction":"SCMP_ACT_NONE"}`} {
		if p, err := newCache(t).Profile([]byte(text)); err == nil {
			t.Errorf("%s is taken for %+v", text, p.Config)
		}
	}
}

// FuzzStandIn: what is kept of a profile is what was written, or it is made anew.
func FuzzStandIn(f *testing.F) {
	c := Cache{}
	profile := dockerProfile(f)
	e, err := c.Entry(profile)
	if err != nil {
		f.Fatal(err)
	}
	stand, err := standIn(profile, e)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := encodeStandIn(stand)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(standInMagic)+32])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, key, err := decodeStandIn(b)
		if err == nil && (key == libseccomp.Key{} || got == nil) {
			t.Errorf("%q stands in for nothing", b)
		}
	})
}
