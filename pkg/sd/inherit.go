package sd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Inherited are the files that the manager passed to this process: sockets
// that listen, and what was in the descriptor store.
type Inherited struct {
	mu        sync.Mutex
	listeners map[string][]net.Listener
	files     map[string][]*os.File
}

// Inherit takes the files over: they are closed on exec from now on, and the
// environment does not name them any more. Call it once, before any child is
// started. Sockets are known by the name of their socket unit unless that says
// otherwise (FileDescriptorName=).
func Inherit() (*Inherited, error) {
	in := &Inherited{listeners: map[string][]net.Listener{}, files: map[string][]*os.File{}}
	var errs []error
	for _, f := range activation.Files(true) {
		errs = append(errs, in.Add(f.Name(), f))
	}
	return in, errors.Join(errs...)
}

// Add takes a file over as if the manager had passed it under a name; it closes
// it unless Take returns it later.
func (in *Inherited) Add(name string, f *os.File) error {
	listens, err := listening(f)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot take over the descriptor %q: %w", name, err), f.Close())
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if !listens {
		in.files[name] = append(in.files[name], f)
		return nil
	}
	l, err := net.FileListener(f) // duplicates it
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot listen at the socket %q: %w", name, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path is the manager's
	}
	in.listeners[name] = append(in.listeners[name], l)
	return nil
}

// Has says whether the manager passed something under a name that was not taken yet.
func (in *Inherited) Has(name string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.files[name]) > 0 || len(in.listeners[name]) > 0
}

// Listeners returns the sockets of a name, until [Store.Remove].
func (in *Inherited) Listeners(name string) []net.Listener {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.listeners[name]
}

func (in *Inherited) forget(name string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.listeners, name)
}

// Names returns the names in the store that were not taken yet, sorted.
func (in *Inherited) Names() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	names := make([]string, 0, len(in.files))
	for n := range in.files {
		names = append(names, n)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// Take returns the stored files of a name, once; the caller closes them. The
// manager's own duplicates stay in the store until Notifier.Remove.
func (in *Inherited) Take(name string) []*os.File {
	in.mu.Lock()
	defer in.mu.Unlock()
	files := in.files[name]
	delete(in.files, name)
	return files
}

// listening says whether f is a socket that listens.
func listening(f *os.File) (bool, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var accepts int
	var serr error
	err = raw.Control(func(fd uintptr) { accepts, serr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN) })
	if err != nil {
		return false, err
	}
	if errors.Is(serr, unix.ENOTSOCK) {
		return false, nil
	}
	return accepts != 0, serr
}

// Store joins both directions of the descriptor store: what was inherited, and
// what is put for the next start.
type Store struct {
	*Notifier
	*Inherited
}

// Remove lets go of what has a name. What was inherited under it and is in use
// stays its user's, and is nobody's who asks for the name later.
func (s Store) Remove(name string) error {
	s.forget(name)
	return s.Notifier.Remove(name)
}
