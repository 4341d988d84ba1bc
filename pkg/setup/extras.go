package setup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Marker is in every file that setup writes beside the units. A file without it
// is somebody else's, and left alone.
const Marker = "written by moss setup"

// Extra is a file that is not needed to run the engine, but to use it: a context
// of docker's client, a completion, a manual page.
type Extra struct {
	Path string
	Text string // has the Marker
	// OwnDir says that the directory is the file's alone and goes with it.
	OwnDir bool
}

// DockerContext is the file by which docker's client knows an engine as a
// context; config is the client's directory. The format is that of the client's
// store: contexts/meta, and in it the digest of the name.
func DockerContext(config, name, socket string) (Extra, error) {
	type endpoint struct {
		Host          string
		SkipTLSVerify bool
	}
	text, err := json.Marshal(struct {
		Name      string
		Metadata  map[string]string
		Endpoints map[string]endpoint
	}{name, map[string]string{"Description": "the moss engine of this user, " + Marker}, map[string]endpoint{"docker": {Host: "unix://" + socket}}})
	sum := sha256.Sum256([]byte(name))
	return Extra{Path: filepath.Join(config, "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json"), Text: string(text), OwnDir: true}, err
}

// installExtras writes the files that differ.
func installExtras(extras []Extra, r *Report) error {
	var errs []error
	for _, x := range extras {
		old, err := os.ReadFile(x.Path)
		switch {
		case err == nil && string(old) == x.Text:
			continue
		case err == nil && !bytes.Contains(old, []byte(Marker)):
			r.Notes = append(r.Notes, "left alone, as moss setup has not written it: "+x.Path)
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
			continue
		}
		if err = os.MkdirAll(filepath.Dir(x.Path), 0o755); err == nil {
			err = replaceFile(x.Path, x.Text)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.did("wrote %s", x.Path)
	}
	return errors.Join(errs...)
}

// removeExtras takes away those that setup has written.
func removeExtras(extras []Extra, r *Report) error {
	var errs []error
	for _, x := range extras {
		old, err := os.ReadFile(x.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		case !bytes.Contains(old, []byte(Marker)):
			continue
		}
		err = os.Remove(x.Path)
		if err == nil && x.OwnDir {
			if err = os.Remove(filepath.Dir(x.Path)); err != nil {
				err = fmt.Errorf("something else is beside what is removed: %w", err)
			}
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.did("removed %s", x.Path)
	}
	return errors.Join(errs...)
}
