package userns

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var user1000 = User{Name: "alice", UID: 1000, GID: 1000}

// files makes a Source of files with these contents; an empty one is not there.
func files(t *testing.T, subuid, subgid, nsswitch string) Source {
	t.Helper()
	dir := t.TempDir()
	s := Source{SubUID: filepath.Join(dir, "subuid"), SubGID: filepath.Join(dir, "subgid"), NSSwitch: filepath.Join(dir, "nsswitch.conf")}
	for path, text := range map[string]string{s.SubUID: subuid, s.SubGID: subgid, s.NSSwitch: nsswitch} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestLookup(t *testing.T) {
	s := files(t, "bob:100000:65536\n# alice:1:2\nbroken\nalice:165536:65536\n1000:400000:10\nalice:165536:65536\n", "alice:165536:65536\n", "")
	m, err := s.Lookup(t.Context(), user1000)
	if err != nil {
		t.Fatal(err)
	}
	if want := []IDMap{{0, 1000, 1}, {1, 165536, 65536}, {65537, 400000, 10}}; !slices.Equal(m.UIDs, want) {
		t.Errorf("uids %v, want %v", m.UIDs, want)
	}
	if want := []IDMap{{0, 1000, 1}, {1, 165536, 65536}}; !slices.Equal(m.GIDs, want) {
		t.Errorf("gids %v, want %v", m.GIDs, want)
	}
	if err := m.CheckSize(); err != nil {
		t.Error(err)
	}
}

func TestLookupRefuses(t *testing.T) {
	good := "alice:100000:65536\n"
	for name, c := range map[string]struct{ uid, gid, want string }{
		"no file":      {"", good, `echo "alice:100000:65536" | sudo tee -a `},
		"no line":      {good, "bob:100000:65536\ncarol:300000:65536\n", `echo "alice:365536:65536" | sudo tee -a `},
		"empty range":  {"alice:100000:0\n", good, "no subordinate ids"},
		"malformed":    {"alice:100000\n", good, "line 1"},
		"not a number": {good, "alice:x:65536\n", "line 1"},
		"negative":     {good, "alice:-5:65536\n", "line 1"},
		"too far":      {"alice:4294967290:65536\n", good, "beyond the last id"},
		"overlap":      {"alice:100000:65536\nalice:120000:5\n", good, "overlap"},
		"own id":       {"alice:900:65536\n", good, "overlap"},
	} {
		m, err := files(t, c.uid, c.gid, "").Lookup(t.Context(), user1000)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, m, err, c.want)
		}
	}
	_, err := files(t, "", good, "").Lookup(t.Context(), user1000)
	if ne := (*NoSubIDsError)(nil); !errors.As(err, &ne) || ne.User != "alice" || !strings.HasSuffix(ne.File, "/subuid") {
		t.Errorf("%#v", err)
	}
}

func TestSmall(t *testing.T) {
	m, err := files(t, "alice:100000:1000\n", "alice:100000:65536\n", "").Lookup(t.Context(), user1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.CheckSize(); err == nil || !strings.Contains(err.Error(), "only 1001 uids") {
		t.Error(err)
	}
}

func TestGetsubids(t *testing.T) {
	s := files(t, "alice:1:1\n", "alice:1:1\n", "passwd: files\nsubid: sss # directory\n")
	s.Getsubids = filepath.Join(t.TempDir(), "getsubids")
	script := "#!/bin/sh\n[ \"$1\" = -g ] && { echo \"0: $2 300000 65536\"; exit; }\n[ \"$1\" = alice ] || { echo Error fetching ranges >&2; exit 1; }\n" +
		"echo \"0: $1 200000 65536\"; echo \"1: $1 200000 65536\"\n"
	if err := os.WriteFile(s.Getsubids, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := s.Lookup(t.Context(), user1000)
	if err != nil || !slices.Equal(m.UIDs, []IDMap{{0, 1000, 1}, {1, 200000, 65536}}) || m.GIDs[1].HostID != 300000 {
		t.Errorf("%+v, %v", m, err)
	}
	_, err = s.Lookup(t.Context(), User{Name: "bob", UID: 1001})
	if ne := (*NoSubIDsError)(nil); !errors.As(err, &ne) || !strings.Contains(ne.Mend, "getsubids bob") {
		t.Errorf("%v", err)
	}
	s.Getsubids = filepath.Join(t.TempDir(), "none")
	if _, err := s.Lookup(t.Context(), user1000); err == nil || !strings.Contains(err.Error(), "apt install uidmap") {
		t.Errorf("%v", err)
	}
}

func TestDynamic(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "passwd: files sss\n": false, "subid: files\n": false, "subid: sss\n": true, "#subid: sss\n": false, "  subid:\tsss\n": true,
		"subid:\n": false,
	} {
		if got := files(t, "", "", text).Dynamic(); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzSubIDs(f *testing.F) {
	f.Add("alice:100000:65536\n1000:4294967295:0\n", "0: alice 100000 65536\n")
	f.Add(":::\nalice::\n", "0:\n")
	f.Fuzz(func(t *testing.T, file, output string) {
		check := func(ranges []SubIDRange, err error) {
			if err != nil {
				return
			}
			for _, r := range ranges {
				if r.Count == 0 || r.end() > 1<<32-1 {
					t.Errorf("range %+v", r)
				}
			}
			m := Mappings{UIDs: mapFrom(1000, ranges), GIDs: []IDMap{{0, 1000, 1}}}
			if m.check(user1000) != nil {
				return
			}
			// What passes the check translates there and back.
			for _, im := range m.UIDs {
				for _, id := range []uint32{im.ContainerID, im.ContainerID + im.Size - 1} {
					out, err := ToHost(m.UIDs, id)
					if err != nil {
						t.Fatalf("%d of %v: %v", id, m.UIDs, err)
					}
					if back, err := ToContainer(m.UIDs, out); err != nil || back != id {
						t.Fatalf("%d -> %d -> %d, %v in %v", id, out, back, err, m.UIDs)
					}
				}
			}
		}
		check(parseSubIDs(strings.NewReader(file), user1000))
		check(parseGetsubids(strings.NewReader(output)))
	})
}
