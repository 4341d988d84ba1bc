// Package secret keeps secrets and configs: small files that containers are
// given. Each is one file, D/secrets/ID, for its owner only, replaced by rename.
// The content of a secret is sealed by systemd's credentials service
// (io.systemd.Credentials, systemd 256 or later) where the machine has it, and
// stands in the file as it is where not. While a container runs, what it uses
// lies in a tmpfs at R/secrets, which all containers share and which is mounted
// once for the life of the engine's namespaces.
package secret

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// The sizes that docker allows, in bytes; a content is smaller.
const (
	maxSecret = 500 << 10
	maxConfig = 1000 << 10
)

// maxName is docker's longest name.
const maxName = 64

// Sealer encrypts what only this user on this machine is to read again.
type Sealer interface {
	// Seal fails with ErrNoSealer where the machine cannot.
	Seal(ctx context.Context, name string, data []byte) (string, error)
	Unseal(ctx context.Context, name, blob string) ([]byte, error)
}

// ErrNoSealer says that the machine has no service that seals.
var ErrNoSealer = errors.New("no service for credentials")

// Options say where secrets are.
type Options struct {
	Dir    string // D/secrets
	RunDir string // R/secrets, the tmpfs
	Sealer Sealer
	Log    *slog.Logger
}

// entry is the content of a secret's file. The content is in one of Data and Sealed.
type entry struct {
	moss.Secret
	Data   []byte `json:",omitempty"`
	Sealed string `json:",omitempty"`
}

// Store is the secrets and configs of one engine.
type Store struct {
	o Options

	mu  sync.Mutex // for a look or a change
	all map[moss.SecretID]moss.Secret

	changing sync.Mutex // one change at a time; a change seals before it
}

// Open reads what secrets there are, and mounts the tmpfs unless it is there.
// What cannot be read is logged and stays as it is.
func Open(o Options) (*Store, error) {
	s := &Store{o: o, all: make(map[moss.SecretID]moss.Secret)}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, moss.Wrap(err, "make the directory of secrets", o.Dir)
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, moss.Wrap(err, "read the directory of secrets", o.Dir)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(filepath.Join(o.Dir, e.Name())); err != nil {
				o.Log.Warn("what a killed engine has left of a secret stays", "file", e.Name(), "error", err)
			}
			continue
		}
		got, err := s.read(moss.SecretID(e.Name()))
		if err != nil {
			o.Log.Error("a secret cannot be read; it is left as it is", "secret", e.Name(), "error", err)
			continue
		}
		s.all[got.ID] = got.Secret
	}
	return s, moss.Wrap(mountMemory(o.RunDir), "mount the directory of used secrets", o.RunDir)
}

func (s *Store) read(id moss.SecretID) (entry, error) {
	text, err := os.ReadFile(filepath.Join(s.o.Dir, string(id)))
	if err != nil {
		return entry{}, err
	}
	return decode(id, text)
}

// decode reads the file of a secret.
func decode(id moss.SecretID, text []byte) (entry, error) {
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return e, err
	}
	if e.ID != id || e.Kind != moss.KindSecret && e.Kind != moss.KindConfig || e.Name == "" {
		return e, fmt.Errorf("it is the record of %s %q", e.Kind, e.ID)
	}
	return e, nil
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?$`)

// Create makes a secret or a config. Errors: Invalid, Conflict for a name in use.
func (s *Store) Create(ctx context.Context, r moss.SecretRequest) (moss.Secret, error) {
	most := maxSecret
	if r.Kind == moss.KindConfig {
		most = maxConfig
	}
	switch {
	case r.Name == "":
		return moss.Secret{}, moss.Errorf(moss.Invalid, "name must be provided")
	case len(r.Name) > maxName || !validName.MatchString(r.Name):
		return moss.Secret{}, moss.Errorf(moss.Invalid, "invalid name, only %d [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]", maxName)
	case len(r.Data) == 0 || len(r.Data) >= most:
		return moss.Secret{}, moss.Errorf(moss.Invalid, "%s data must be larger than 0 and less than %d bytes", r.Kind, most)
	}
	now := time.Now().UTC()
	e := entry{Secret: moss.Secret{ID: newID(), Kind: r.Kind, Name: r.Name, Labels: maps.Clone(r.Labels), Created: now, Updated: now, Version: 1}}
	if err := s.put(ctx, &e, r.Data); err != nil {
		return moss.Secret{}, moss.Wrap(err, "seal the "+string(r.Kind), r.Name)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if slices.ContainsFunc(s.List(r.Kind), func(o moss.Secret) bool { return o.Name == r.Name }) {
		return moss.Secret{}, moss.Errorf(moss.Conflict, "%s %s already exists", r.Kind, r.Name)
	}
	if err := s.write(e); err != nil {
		return moss.Secret{}, moss.Wrap(err, "write the "+string(r.Kind), r.Name)
	}
	return e.Secret, nil
}

// put sets an entry's content, sealed where it is a secret and the machine can.
func (s *Store) put(ctx context.Context, e *entry, data []byte) error {
	if e.Kind == moss.KindSecret {
		blob, err := s.o.Sealer.Seal(ctx, string(e.ID), data)
		if err == nil {
			e.Sealed = blob
			return nil
		}
		if !errors.Is(err, ErrNoSealer) {
			return err
		}
	}
	e.Data = data
	return nil
}

// write puts an entry's file in place, for good when it returns.
func (s *Store) write(e entry) (err error) {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.o.Dir, tempPrefix+string(e.ID)), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(s.o.Dir, string(e.ID))); err != nil {
		return err
	}
	s.mu.Lock()
	s.all[e.ID] = e.Secret
	s.mu.Unlock()
	return syncDir(s.o.Dir)
}

const tempPrefix = ".new-"

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// List returns those of a kind by name, from memory.
func (s *Store) List(kind moss.SecretKind) []moss.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []moss.Secret
	for _, one := range s.all {
		if one.Kind == kind {
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b moss.Secret) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Relabel gives a secret other labels, if its version is still the one told.
// Errors: NotFound, Invalid for another version.
func (s *Store) Relabel(_ context.Context, id moss.SecretID, version uint64, labels map[string]string) (moss.Secret, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	e, err := s.load(id)
	if err != nil {
		return e.Secret, err
	}
	if e.Version != version {
		return e.Secret, moss.Errorf(moss.Invalid, "update out of sequence")
	}
	e.Version, e.Updated, e.Labels = e.Version+1, time.Now().UTC(), maps.Clone(labels)
	return e.Secret, moss.Wrap(s.write(e), "write the "+string(e.Kind), e.Name)
}

func (s *Store) load(id moss.SecretID) (entry, error) {
	s.mu.Lock()
	known, ok := s.all[id]
	s.mu.Unlock()
	if !ok {
		return entry{}, moss.Errorf(moss.NotFound, "secret or config %s not found", id)
	}
	e, err := s.read(id)
	return e, moss.Wrap(err, "read the "+string(known.Kind), known.Name)
}

// Remove takes a secret away. Errors: NotFound.
func (s *Store) Remove(_ context.Context, id moss.SecretID) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	known, ok := s.all[id]
	s.mu.Unlock()
	if !ok {
		return moss.Errorf(moss.NotFound, "secret or config %s not found", id)
	}
	if err := os.Remove(filepath.Join(s.o.Dir, string(id))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return moss.Wrap(err, "remove the "+string(known.Kind), known.Name)
	}
	s.mu.Lock()
	delete(s.all, id)
	s.mu.Unlock()
	return moss.Wrap(syncDir(s.o.Dir), "remove the "+string(known.Kind), known.Name)
}

// Data is the content. Errors: NotFound.
func (s *Store) Data(ctx context.Context, id moss.SecretID) ([]byte, error) {
	e, err := s.load(id)
	if err != nil || e.Sealed == "" {
		return e.Data, err
	}
	data, err := s.o.Sealer.Unseal(ctx, string(id), e.Sealed)
	return data, moss.Wrap(err, "unseal the "+string(e.Kind), e.Name)
}

// idDigits is the length of an id in base 36; what 128 random bits have at most.
const idDigits = 25

func newID() moss.SecretID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	digits := new(big.Int).SetBytes(b[:]).Text(36)
	return moss.SecretID(strings.Repeat("0", idDigits-len(digits)) + digits)
}
