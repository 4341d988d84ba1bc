// Package setup puts the engine's units into the user's systemd and takes them
// away again. It runs outside the user namespace, as the plain user.
package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/pkg/units"
	systemdunits "github.com/moss-containers/moss/systemd-units"
)

// Options say what is set up, and where.
type Options struct {
	Prefix string            // of the units; default "moss"
	BinDir string            // where mossd is
	Env    map[string]string // for the daemon and the holder
	Flags  []string          // for the daemon
	// Runtime writes below $XDG_RUNTIME_DIR: the units are gone after the machine's next start.
	Runtime bool
	// Purge deletes images, containers and configuration too, at Uninstall.
	Purge bool

	// Extras are files beside the units.
	Extras []Extra

	// UnitDir replaces the directory of the unit files.
	UnitDir string
	// DataDirs are what Purge deletes: data, configuration, and what is of this boot.
	DataDirs []string
}

// Manager is what setup needs of the user's systemd; *units.Manager has it.
type Manager interface {
	Reload(ctx context.Context) error
	Enable(ctx context.Context, runtime bool, names ...string) (changed bool, err error)
	Disable(ctx context.Context, runtime bool, names ...string) (changed bool, err error)
	Units
}

// Units are the verbs on one unit.
type Units interface {
	StartUnit(ctx context.Context, name string) error
	RestartUnit(ctx context.Context, name string) error
	StopUnit(ctx context.Context, name string) error
	ResetUnit(ctx context.Context, name string) error
	State(ctx context.Context, name string) (units.UnitState, error)
}

// Containers ends the containers' units at Uninstall; *units.Manager has it.
type Containers interface {
	List(ctx context.Context) ([]moss.UnitStatus, error)
	StopUnit(ctx context.Context, name string) error
}

// Report tells what was done, a line for each thing, and what the user should know.
type Report struct {
	Done  []string
	Notes []string
}

func (r *Report) did(format string, args ...any) {
	r.Done = append(r.Done, fmt.Sprintf(format, args...))
}

// Install writes the unit files that differ, makes the manager read them,
// enables socket and daemon and starts the socket. Doing it again changes
// nothing; after an upgrade it restarts the daemon, never the containers.
func Install(ctx context.Context, m Manager, o Options) (Report, error) {
	var r Report
	err := install(ctx, m, o, &r)
	if err == nil {
		err = moss.Wrap(installExtras(o.Extras, &r), "write what goes with the engine", "")
	}
	return r, err
}

func install(ctx context.Context, m Manager, o Options, r *Report) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	files, err := systemdunits.Render(systemdunits.Params{Prefix: o.Prefix, BinDir: o.BinDir, Env: o.Env, Flags: o.Flags})
	if err != nil {
		return &moss.Error{Class: moss.Invalid, Op: "write the unit files", Err: err}
	}
	if err := checkPrograms(o.BinDir); err != nil {
		return err
	}
	changed, err := writeUnits(o.UnitDir, files, r)
	if err != nil {
		return moss.Wrap(err, "write the unit files to", o.UnitDir)
	}
	if len(changed) > 0 {
		if err := m.Reload(ctx); err != nil {
			return err
		}
		r.did("reloaded systemd --user")
	}
	socket, service, holder := systemdunits.Socket(o.Prefix), systemdunits.Service(o.Prefix), systemdunits.Holder(o.Prefix)
	enabled, err := m.Enable(ctx, o.Runtime, socket, service)
	if err != nil {
		return err
	}
	if enabled {
		r.did("enabled %s and %s", socket, service)
	}
	if err := startSocket(ctx, m, socket, service, holder, slices.Contains(changed, socket), r); err != nil {
		return err
	}
	if !slices.Contains(changed, service) && !slices.Contains(changed, holder) {
		return nil
	}
	st, err := m.State(ctx, service)
	if err != nil || st.Active != "active" {
		return err
	}
	if slices.Contains(changed, service) {
		if err := m.RestartUnit(ctx, service); err != nil {
			return err
		}
		r.did("restarted %s", service)
	}
	if slices.Contains(changed, holder) {
		r.Notes = append(r.Notes, "the running namespaces are kept for the containers in them; to use the new "+holder+
			" stop the containers and run: systemctl --user restart "+holder)
	}
	return nil
}

// startSocket starts the socket. A socket that has changed is made anew; systemd
// does that only while its service is down.
func startSocket(ctx context.Context, m Units, socket, service, holder string, changed bool, r *Report) error {
	st, err := m.State(ctx, socket)
	if err != nil {
		return err
	}
	if st.Active == "active" && !changed {
		return nil
	}
	if st.Active == "active" {
		if err := errors.Join(m.StopUnit(ctx, service), m.StopUnit(ctx, socket)); err != nil {
			return err
		}
	}
	for _, name := range []string{socket, service, holder} { // they may have been given up, for a reason that is gone
		if err := m.ResetUnit(ctx, name); err != nil {
			return err
		}
	}
	if err := m.StartUnit(ctx, socket); err != nil {
		return err
	}
	r.did("started %s", socket)
	return nil
}

// Uninstall stops the engine with its containers and removes its units. Images,
// volumes and configuration stay unless Purge is set.
func Uninstall(ctx context.Context, m Manager, c Containers, o Options) (Report, error) {
	var r Report
	o, err := o.withDefaults()
	if err != nil {
		return r, err
	}
	socket, service, holder := systemdunits.Socket(o.Prefix), systemdunits.Service(o.Prefix), systemdunits.Holder(o.Prefix)
	running, err := c.List(ctx)
	errs := []error{err}
	for _, name := range []string{socket, service} { // the daemon first: it would start containers anew
		errs = append(errs, m.StopUnit(ctx, name))
	}
	for _, st := range running {
		name := o.Prefix + "-" + st.Short + ".service"
		errs = append(errs, c.StopUnit(ctx, name), m.ResetUnit(ctx, name))
	}
	for _, name := range []string{holder, systemdunits.Slice(o.Prefix)} {
		errs = append(errs, m.StopUnit(ctx, name))
	}
	if err := errors.Join(errs...); err != nil {
		return r, moss.Wrap(err, "stop the engine", o.Prefix)
	}
	r.did("stopped %s, %s and %d containers", service, holder, len(running))
	switch _, err := os.Stat(filepath.Join(o.UnitDir, socket)); {
	case errors.Is(err, fs.ErrNotExist):
		r.Notes = append(r.Notes, "there were no unit files of "+o.Prefix+" in "+o.UnitDir)
	case err != nil:
		return r, err
	default:
		if _, err := m.Disable(ctx, o.Runtime, socket, service); err != nil {
			return r, err
		}
		r.did("disabled %s and %s", socket, service)
	}
	removed := 0
	for _, name := range []string{socket, service, holder, systemdunits.Slice(o.Prefix)} {
		switch err := os.Remove(filepath.Join(o.UnitDir, name)); {
		case err == nil:
			removed++
			r.did("removed %s", filepath.Join(o.UnitDir, name))
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
		errs = append(errs, m.ResetUnit(ctx, name))
	}
	if removed > 0 {
		errs = append(errs, m.Reload(ctx))
	}
	errs = append(errs, removeExtras(o.Extras, &r))
	if !o.Purge {
		return r, errors.Join(errs...)
	}
	if err := purge(ctx, o.BinDir, o.DataDirs); err != nil {
		errs = append(errs, moss.Wrap(err, "delete the data of", o.Prefix))
	} else {
		r.did("deleted %s", strings.Join(o.DataDirs, " and "))
	}
	return r, errors.Join(errs...)
}

func (o Options) withDefaults() (Options, error) {
	if o.Prefix == "" {
		o.Prefix = "moss"
	}
	if o.UnitDir != "" {
		return o, nil
	}
	base := os.Getenv("XDG_CONFIG_HOME")
	if o.Runtime {
		base = os.Getenv("XDG_RUNTIME_DIR")
		if base == "" {
			return o, moss.Errorf(moss.Unavailable, "XDG_RUNTIME_DIR is not set; log in through systemd-logind, or run: loginctl enable-linger")
		}
	} else if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return o, err
		}
		base = filepath.Join(home, ".config")
	}
	o.UnitDir = filepath.Join(base, "systemd", "user")
	return o, nil
}

// checkPrograms makes sure that what the units start is there.
func checkPrograms(dir string) error {
	for _, name := range []string{names.Daemon, names.Rootless, names.Runtime} {
		path := filepath.Join(dir, name)
		if err := unix.Access(path, unix.X_OK); err != nil {
			return &moss.Error{Class: moss.Unavailable, Op: "find the program", ID: path, Err: err}
		}
	}
	return nil
}

// writeUnits writes the files whose text differs and names them.
func writeUnits(dir string, files map[string]string, r *Report) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		old, err := os.ReadFile(path)
		if err == nil && bytes.Equal(old, []byte(files[name])) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return changed, err
		}
		if err := replaceFile(path, files[name]); err != nil {
			return changed, err
		}
		changed = append(changed, name)
		r.did("wrote %s", path)
	}
	return changed, nil
}

// replaceFile writes a file so that at any instant the old or the new one is there.
func replaceFile(path, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = strings.NewReader(text).WriteTo(f)
	if err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
