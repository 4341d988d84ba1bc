package filter

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runc/libcontainer/configs"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

// cacheEnv makes this test binary fill the cache it names and no more.
const cacheEnv = "MOSS_RUNTIME_TEST_CACHE"

func TestMain(m *testing.M) {
	if root := os.Getenv(cacheEnv); root != "" {
		os.Exit(fill(root))
	}
	os.Exit(m.Run())
}

func newCache(t *testing.T) Cache { return ForRoot(filepath.Join(t.TempDir(), "root")) }

func (c Cache) mustEntry(t *testing.T, profile *configs.Seccomp) *Entry {
	t.Helper()
	e, err := c.Entry(profile)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// files are the names in the cache.
func (c Cache) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, filepath.Join(c.dir, e.Name()))
	}
	return names
}

// The program has the verdicts of libseccomp's own (TestRewrite runs them), or is
// that to the byte, whether compiled or kept.
func TestProgramIsLibseccomps(t *testing.T) {
	c := newCache(t)
	kept := map[libseccomp.Key]bool{}
	for name, profile := range allProfiles(t) {
		want := fresh(t, profile)
		missed := c.mustEntry(t, profile)
		if !bytes.Equal(missed.Program, want) {
			same, err := sameVerdicts(mustParse(t, want), mustParse(t, missed.Program))
			if err != nil || !same || len(missed.Program) >= len(want) {
				t.Errorf("%s: compiled: %d bytes for libseccomp's %d (%v)", name, len(missed.Program), len(want), err)
			}
			want = missed.Program
		}
		kept[missed.Key] = true
		hit, err := c.load(missed.Key)
		if err != nil {
			t.Fatalf("%s: not kept: %v", name, err)
		}
		if !bytes.Equal(hit.Program, want) || !bytes.Equal(c.mustEntry(t, profile).Program, want) {
			t.Errorf("%s: kept: differs from libseccomp's", name)
		}
	}
	if len(kept) < 55 {
		t.Errorf("only %d different filters", len(kept))
	}
}

// A hit compiles nothing: a program put there is the one handed out.
func TestHitDoesNotCompile(t *testing.T) {
	c, profile := newCache(t), dockerProfile(t)
	e := c.mustEntry(t, profile)
	e.Program = e.Program[:instruction]
	if err := c.store(e); err != nil {
		t.Fatal(err)
	}
	if got := c.mustEntry(t, profile); !bytes.Equal(got.Program, e.Program) {
		t.Error("the program that was kept is not the one handed out")
	}
}

// Building a filter beforehand loads none.
func TestNothingIsLoaded(t *testing.T) {
	filters := func() string {
		t.Helper()
		data, err := os.ReadFile("/proc/thread-self/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "Seccomp") {
				return line
			}
		}
		return ""
	}
	before := filters()
	newCache(t).mustEntry(t, dockerProfile(t))
	if after := filters(); after != before {
		t.Errorf("before %q, after %q", before, after)
	}
}

func TestBadEntries(t *testing.T) {
	profile := dockerProfile(t)
	other := (Cache{}).mustEntry(t, dockerProfile(t, "CAP_SYS_ADMIN"))
	want := (Cache{}).mustEntry(t, profile)
	good := want.encode()
	changed := func(at int) []byte {
		b := slices.Clone(good)
		b[at] ^= 1
		return b
	}
	for name, data := range map[string][]byte{
		"empty":             {},
		"cut in the header": good[:header-1],
		"no program":        good[:header],
		"cut":               good[:len(good)-instruction],
		"longer":            append(slices.Clone(good), make([]byte, instruction)...),
		"huge":              append(slices.Clone(good), make([]byte, maxEntry)...),
		"magic":             changed(0),
		"length":            changed(len(magic)),
		"key":               changed(len(magic) + 4),
		"sum":               changed(header - 1),
		"program":           changed(header + 9),
		"last byte":         changed(len(good) - 1),
		"another filter's":  other.encode(),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t)
			c.mustEntry(t, profile)
			file := c.files(t)[0]
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := c.load(want.Key); err == nil {
				t.Fatal("it is taken")
			}
			if got := c.mustEntry(t, profile); !bytes.Equal(got.Program, want.Program) {
				t.Error("not the program")
			}
			if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, good) {
				t.Errorf("not rewritten (%v)", err)
			}
			st, err := os.Stat(file)
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
		})
	}
}

// Where programs cannot be kept, or others could have put them, they are
// compiled.
func TestBadDirectories(t *testing.T) {
	profile := dockerProfile(t)
	want := (Cache{}).mustEntry(t, profile)
	for name, spoil := range map[string]func(t *testing.T, c Cache) error{
		"open to others": func(_ *testing.T, c Cache) error { return os.Chmod(c.dir, 0o777) },
		"a link": func(t *testing.T, c Cache) error {
			aside := filepath.Join(t.TempDir(), "aside")
			return errors.Join(os.Rename(c.dir, aside), os.Symlink(aside, c.dir))
		},
		"a file": func(_ *testing.T, c Cache) error {
			return errors.Join(os.RemoveAll(c.dir), os.WriteFile(c.dir, nil, 0o600))
		},
		"no parent": func(_ *testing.T, c Cache) error { return os.RemoveAll(filepath.Dir(c.dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t)
			planted := c.mustEntry(t, profile)
			planted.Program = planted.Program[:instruction]
			if err := errors.Join(c.store(planted), spoil(t, c)); err != nil {
				t.Fatal(err)
			}
			if got := c.mustEntry(t, profile); !bytes.Equal(got.Program, want.Program) {
				t.Error("not the program")
			}
		})
	}
}

// Many starts at once all get the program, and leave one whole entry.
func TestConcurrentFills(t *testing.T) {
	c := newCache(t)
	root := strings.TrimSuffix(c.dir, "-seccomp")
	var fillers []*exec.Cmd
	for range 8 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), cacheEnv+"="+root)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fillers = append(fillers, cmd)
	}
	for _, cmd := range fillers {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if files := c.files(t); len(files) != 1 {
		t.Errorf("files %q", files)
	}
}

// fill gets the entry again and again while others do, emptying it in between.
func fill(root string) int {
	c, t := ForRoot(root), &testing.T{}
	profile := dockerProfile(t)
	want, err := (Cache{}).Entry(profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for range 10 {
		got, err := c.Entry(profile)
		if err != nil || !bytes.Equal(got.Program, want.Program) {
			fmt.Fprintln(os.Stderr, "not the program", err)
			return 1
		}
		if name, err := c.file(got.Key); err != nil || os.Truncate(name, 100) != nil {
			fmt.Fprintln(os.Stderr, "cannot damage the entry", err)
			return 1
		}
	}
	if _, err := c.Entry(profile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestPrune(t *testing.T) {
	c := newCache(t)
	e := c.mustEntry(t, dockerProfile(t))
	first := c.files(t)[0]
	long := time.Now().Add(-time.Hour)
	for i := range 2 * most {
		name := filepath.Join(c.dir, fmt.Sprintf("new-%d", i))
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chtimes(name, long, long)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.store(e); err != nil {
		t.Fatal(err)
	}
	if files := c.files(t); len(files) != most-1 && len(files) != most || !slices.Contains(files, first) {
		t.Errorf("%d files", len(files))
	}
}

// Another executable does not find the entries of this one.
func TestNameIsTheExecutables(t *testing.T) {
	c := newCache(t)
	e := c.mustEntry(t, dockerProfile(t))
	name, err := c.file(e.Key)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, binary, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied)
	cmd.Env = append(os.Environ(), cacheEnv+"="+strings.TrimSuffix(c.dir, "-seccomp"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if files := c.files(t); len(files) != 2 || !slices.Contains(files, name) {
		t.Errorf("files %q, of ours %s", files, name)
	}
}
