package secret_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/secret"
	"github.com/moss-containers/moss/tests/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func open(t *testing.T, dir string, seal secret.Sealer) *secret.Store {
	t.Helper()
	run := filepath.Join(dir, "run")
	s, err := secret.Open(secret.Options{Dir: filepath.Join(dir, "secrets"), RunDir: run, Sealer: seal, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(run, unix.MNT_DETACH) }) // opened twice, mounted once
	return s
}

// none is a machine without the service.
var none = secret.NewCredentials("/nonexistent/socket")

// coding seals by an encoding, which is enough to see who does it.
type coding struct{ broken error }

func (r coding) Seal(_ context.Context, name string, data []byte) (string, error) {
	return name + ":" + base64.StdEncoding.EncodeToString(data), r.broken
}

func (r coding) Unseal(_ context.Context, name, blob string) ([]byte, error) {
	text, ok := strings.CutPrefix(blob, name+":")
	if !ok {
		return nil, errors.New("it was sealed under another name")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	return data, errors.Join(r.broken, err)
}

func TestContract(t *testing.T) {
	for name, seal := range map[string]secret.Sealer{"plain": none, "sealed": coding{}} {
		t.Run(name, func(t *testing.T) {
			porttest.Secrets(t, func(t *testing.T) porttest.SecretStore { return open(t, t.TempDir(), seal) })
		})
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, coding{})
	db, err := s.Create(t.Context(), moss.SecretRequest{Kind: moss.KindSecret, Name: "db", Data: []byte("geheim")})
	if err != nil {
		t.Fatal(err)
	}
	conf, err := s.Create(t.Context(), moss.SecretRequest{Kind: moss.KindConfig, Name: "conf", Data: []byte("offen")})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[moss.SecretID]string{db.ID: "", conf.ID: "offen"} {
		name := filepath.Join(dir, "secrets", string(id))
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var on struct{ Data []byte }
		if err := json.Unmarshal(text, &on); err != nil || string(on.Data) != want || bytes.Contains(text, []byte("geheim")) {
			t.Errorf("%s: %v", text, err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v %v", info.Mode(), err)
		}
	}
	// What a killed engine leaves, and what is broken, is in nobody's way.
	for name, text := range map[string]string{".new-x": "{", "broken": "{", "other": `{"ID":"not","Kind":"secret","Name":"n"}`} {
		if err := os.WriteFile(filepath.Join(dir, "secrets", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, dir, coding{})
	if l := again.List(moss.KindSecret); len(l) != 1 || l[0].Name != "db" || !l[0].Created.Equal(db.Created) {
		t.Errorf("%+v", l)
	}
	if data, err := again.Data(t.Context(), db.ID); err != nil || string(data) != "geheim" {
		t.Errorf("%q %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "secrets", ".new-x")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what was unfinished stays:", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "secrets", "broken")); err != nil {
		t.Error("what cannot be read was not left as it is:", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(dir, "run"), &st); err != nil || st.Type != unix.TMPFS_MAGIC || st.Flags&unix.ST_NOEXEC == 0 {
		t.Errorf("%x %v", st.Type, err)
	}
}

func TestPlaceOwner(t *testing.T) {
	if !nstest.Full() {
		t.Skip("more than one id takes root")
	}
	s := open(t, t.TempDir(), none)
	db, err := s.Create(t.Context(), moss.SecretRequest{Kind: moss.KindSecret, Name: "db", Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	points, err := s.Place(t.Context(), "c", []moss.SecretUse{{ID: db.ID, Target: "/x", Mode: 0o4440, UID: 7, GID: 8}})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(points[0].Source, &st); err != nil || st.Uid != 7 || st.Gid != 8 || st.Mode&0o7777 != 0o4440 {
		t.Errorf("%+v %v", st, err)
	}
	_, err = s.Place(t.Context(), "c", []moss.SecretUse{{ID: db.ID, Target: "/x", UID: 1 << 30}})
	if err == nil {
		t.Error("an owner that there is not")
	}
}

func TestRefused(t *testing.T) {
	s := open(t, t.TempDir(), none)
	for _, r := range []moss.SecretRequest{
		{Kind: moss.KindSecret, Name: "-a", Data: []byte("x")},
		{Kind: moss.KindSecret, Name: "a/b", Data: []byte("x")},
		{Kind: moss.KindSecret, Name: strings.Repeat("a", 65), Data: []byte("x")},
		{Kind: moss.KindSecret, Name: "big", Data: make([]byte, 500<<10)},
		{Kind: moss.KindConfig, Name: "big", Data: make([]byte, 1000<<10)},
	} {
		if _, err := s.Create(t.Context(), r); err == nil || moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%s of %d bytes: %v", r.Name, len(r.Data), err)
		}
	}
	if _, err := s.Create(t.Context(), moss.SecretRequest{Kind: moss.KindConfig, Name: "big", Data: make([]byte, 600<<10)}); err != nil {
		t.Error(err)
	}
	// A machine that can seal but fails to does not fall back to plain text.
	s = open(t, t.TempDir(), coding{errors.New("no key")})
	if _, err := s.Create(t.Context(), moss.SecretRequest{Kind: moss.KindSecret, Name: "db", Data: []byte("x")}); err == nil || !strings.Contains(err.Error(), `cannot seal the secret "db": no key`) {
		t.Error(err)
	}
}
