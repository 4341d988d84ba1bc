package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containers/storage/pkg/unshare"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// The drivers of the store, and the name that a user gives overlay by FUSE.
const (
	driverOverlay = "overlay"
	driverVFS     = "vfs"
	fuseOverlayfs = "fuse-overlayfs"
)

// choice is a driver, ready to be opened.
type choice struct {
	driver       string // the store's name of it
	mountProgram string // path of fuse-overlayfs; "" where the kernel mounts
	why          string // one sentence for the user
	mountOptions string // for each mount
}

func (c choice) name() string {
	if c.mountProgram != "" {
		return fuseOverlayfs
	}
	return c.driver
}

func (c choice) options() []string {
	if c.driver != driverOverlay {
		return nil
	}
	// The mount namespace is ours alone, so the store's directory need not be made a private mount.
	o := []string{"overlay.skip_mount_home=true"}
	if c.mountProgram != "" {
		o = append(o, "overlay.mount_program="+c.mountProgram)
	}
	if c.mountOptions != "" {
		o = append(o, "overlay.mountopt="+c.mountOptions)
	}
	return o
}

// prober tells what the machine can do at a directory.
type prober interface {
	// native says why the kernel cannot mount overlays there; nil when it can.
	native(dir string) error
	// fuse gives the path of a fuse-overlayfs that works: of that one, "" for the one that is found.
	fuse(ctx context.Context, dir, program string) (string, error)
}

// choose settles on a driver. Layers of one driver are of no use to another,
// so a store that has images stays with its own.
func choose(ctx context.Context, root, want string, t tuning, p prober) (choice, error) {
	makeRoom(root) // probes write
	c, err := chooseDriver(ctx, root, want, t, p)
	if err == nil && c.driver == driverVFS && t != (tuning{}) {
		return c, moss.Errorf(moss.Invalid, "driver vfs has no storage options")
	}
	c.mountOptions = t.mountOptions
	return c, err
}

func chooseDriver(ctx context.Context, root, want string, t tuning, p prober) (choice, error) {
	prior, err := priorDriver(root)
	if err != nil {
		return choice{}, err
	}
	switch want {
	case "":
	case "overlay2":
		want = driverOverlay
	case driverOverlay, driverVFS, fuseOverlayfs:
	default:
		return choice{}, moss.Errorf(moss.Invalid, "storage driver %q is not one of overlay, fuse-overlayfs and vfs", want)
	}
	why := "it was asked for"
	if t.mountProgram != "" && (want == "" || want == driverOverlay) {
		want, why = fuseOverlayfs, "overlay.mount_program was given"
	}
	if want == "" && prior != "" {
		want, why = prior, "the images that are there were made with it"
	}
	switch want {
	case driverVFS:
		return choice{driver: driverVFS, why: why}, nil
	case driverOverlay:
		if prior == fuseOverlayfs {
			return choice{}, moss.Errorf(moss.Conflict, "the kernel's overlay cannot use the layers of fuse-overlayfs that are there; remove %s, or ask for driver fuse-overlayfs", root)
		}
		if err := p.native(root); err != nil {
			return choice{}, moss.Errorf(moss.Unavailable, "driver overlay is wanted because %s, but does not work here: %w", why, err)
		}
		return choice{driver: driverOverlay, why: why}, nil
	case fuseOverlayfs:
		path, err := p.fuse(ctx, root, t.mountProgram)
		if err != nil {
			return choice{}, moss.Errorf(moss.Unavailable, "driver fuse-overlayfs is wanted because %s, but does not work here: %w", why, err)
		}
		return choice{driver: driverOverlay, mountProgram: path, why: why}, nil
	}
	native := p.native(root)
	if native == nil {
		return choice{driver: driverOverlay, why: "the kernel mounts overlays in this user namespace"}, nil
	}
	path, fuse := p.fuse(ctx, root, t.mountProgram)
	if fuse == nil {
		return choice{driver: driverOverlay, mountProgram: path, why: fmt.Sprintf("the kernel does not mount overlays here (%v)", native)}, nil
	}
	return choice{driver: driverVFS, why: fmt.Sprintf("neither the kernel's overlay (%v) nor fuse-overlayfs (%v) works here; every container copies its whole image", native, fuse)}, nil
}

// priorDriver names the driver whose images are at root, "" when there are none.
func priorDriver(root string) (string, error) {
	for _, d := range []string{driverOverlay, driverVFS} {
		name := filepath.Join(root, d+"-images", "images.json")
		b, err := beginning(name)
		if len(b) == 0 && err == nil { // damaged or gone
			b, err = beginning(name + goodSuffix)
		}
		if err != nil {
			return "", err
		}
		if len(b) <= len("[]") {
			continue
		}
		// The store notes here whether a mount program made its layers.
		flag, err := os.ReadFile(filepath.Join(root, d, ".has-mount-program"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if strings.TrimSpace(string(flag)) == "true" {
			return fuseOverlayfs, nil
		}
		return d, nil
	}
	return "", nil
}

// beginning is that of a file, without space around it; nothing where there is no file.
func beginning(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, 64)
	n, err := f.Read(b)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return bytes.TrimSpace(b[:n]), errors.Join(err, f.Close())
}

// machine probes by doing it.
type machine struct{}

func (machine) native(dir string) error {
	return probe(dir, func(d string, options string) error {
		if unshare.IsRootless() {
			options += ",userxattr"
		}
		if err := unix.Mount("overlay", filepath.Join(d, "merged"), "overlay", 0, options); err != nil {
			return fmt.Errorf("mounting: %w", err)
		}
		return nil
	})
}

func (machine) fuse(ctx context.Context, dir, program string) (string, error) {
	path, err := exec.LookPath(cmp.Or(program, fuseOverlayfs))
	switch {
	case err != nil && program == "":
		return "", errors.New("it is not installed")
	case err != nil:
		return "", err
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		return "", fmt.Errorf("/dev/fuse: %w", err)
	}
	ctx = context.WithoutCancel(ctx) // a probe cut short would tell that it does not work
	return path, probe(dir, func(d string, options string) error {
		if out, err := exec.CommandContext(ctx, path, "-o", options, filepath.Join(d, "merged")).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	})
}

// probe lets mount make an overlay below dir and sees whether it reads, writes
// and deletes as one must.
func probe(dir string, mount func(dir, options string) error) (err error) {
	d, err := os.MkdirTemp(dir, ".probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d)) }()
	for _, n := range []string{"lower/dir", "upper", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(d, n), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(d, "lower/dir/file"), []byte("x"), 0o600); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", d)
	if err := mount(d, options); err != nil {
		return err
	}
	merged := filepath.Join(d, "merged")
	server, _ := serving(merged) // for the kernel's there is none
	defer func() {
		err = errors.Join(err, unix.Unmount(merged, unix.MNT_DETACH))
		reap(server)
	}()
	if _, err := os.ReadFile(filepath.Join(merged, "dir/file")); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(merged, "dir")); err != nil { // a whiteout
		return err
	}
	if err := os.Mkdir(filepath.Join(merged, "dir"), 0o700); err != nil { // an opaque directory
		return err
	}
	left, err := os.ReadDir(filepath.Join(merged, "dir"))
	if err == nil && len(left) != 0 {
		err = errors.New("a directory made anew shows what was deleted")
	}
	return err
}
