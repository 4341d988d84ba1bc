package units

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/moss-containers/moss/pkg/moss"
)

// Options say whose units a Manager runs.
type Options struct {
	// Prefix of the units' names; default "moss".
	Prefix string
	// UID of the user as the user manager sees it, outside any user namespace:
	// what D-Bus's EXTERNAL authentication names. Default: the effective uid.
	UID *int
	// RuntimeDir is $XDG_RUNTIME_DIR, where the manager's socket and the bus are. Default: the environment's.
	RuntimeDir string
	// Address is the user bus's. Default: $DBUS_SESSION_BUS_ADDRESS, or RuntimeDir/bus.
	Address string
	// BusOnly leaves out the manager's own socket.
	BusOnly bool
	// Entry is the program that a socket unit starts to pass connections on. It gets the container's
	// id, the idle time, or "listen-fds", and the container's port of each socket as further arguments.
	Entry moss.Launch
	// EntrySockets is the directory of the sockets where a container's sockets are to be had, see [moss.EntrySocket].
	EntrySockets string
	// Journal calls each with every entry that this user has written with that field since then, oldest first.
	// The fields are those of systemd.journal-fields(7). Default: none is known.
	Journal func(name, value string, since time.Time, each func(at time.Time, fields map[string]string)) error
	// Log gets what happens to the connection. Default: slog.Default.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Prefix = cmp.Or(o.Prefix, "moss")
	if o.UID == nil {
		uid := os.Geteuid()
		o.UID = &uid
	}
	o.RuntimeDir = cmp.Or(o.RuntimeDir, os.Getenv("XDG_RUNTIME_DIR"), "/run/user/"+strconv.Itoa(*o.UID))
	o.Address = cmp.Or(o.Address, os.Getenv("DBUS_SESSION_BUS_ADDRESS"), "unix:path="+filepath.Join(o.RuntimeDir, "bus"))
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// Manager talks to the user manager. It implements the engine's port Units.
type Manager struct {
	o     Options
	log   *slog.Logger
	names *regexp.Regexp
	paths string // what object paths of container units begin with

	moves *migration

	ctx   context.Context // ends with Close
	close context.CancelFunc
	wg    sync.WaitGroup

	mu       sync.Mutex
	link     *link         // nil while there is none
	changed  chan struct{} // closed and made anew when a unit or the link changes
	units    map[string]*unit
	jobs     map[string]map[*jobWait]struct{} // by unit
	watchers map[*watcher]struct{}
	reloads  bool // the manager reads its unit files: units seem to go, and come back
	ooms     *ooms
}

// unit is what is known of one container unit.
type unit struct {
	state
	seq  uint64           // counts what the manager sent on its own
	told *moss.UnitStatus // what the watchers know
}

// New connects to the user manager and learns which container units there are.
// The error has class Unavailable when there is no manager to talk to.
func New(ctx context.Context, o Options) (*Manager, error) {
	o = o.withDefaults()
	m := &Manager{
		o:        o,
		log:      o.Log.With("component", "units"),
		names:    regexp.MustCompile(`^` + regexp.QuoteMeta(o.Prefix) + `-([0-9a-f]{12})\.service$`),
		paths:    unitPathBase + sd.PathBusEscape(o.Prefix+"-"),
		changed:  make(chan struct{}),
		units:    map[string]*unit{},
		jobs:     map[string]map[*jobWait]struct{}{},
		watchers: map[*watcher]struct{}{},
		moves:    openMigration(),
		ooms:     watchOOMs(),
	}
	m.ctx, m.close = context.WithCancel(context.Background())
	l, err := m.connect(ctx)
	if err != nil {
		m.close()
		_ = errors.Join(m.moves.close(), m.ooms.close()) // already failing
		return nil, moss.Wrap(err, "reach the user's systemd", "")
	}
	m.wg.Go(func() {
		m.ooms.wait(func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.readOOMsLocked()
		})
	})
	m.wg.Go(func() { m.supervise(l) }) //nolint:contextcheck // lives until Close, not until ctx ends
	return m, nil
}

// Close ends the connection and every Watch.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.close()
	m.ooms.end()
	m.mu.Unlock()
	err := m.ooms.close()
	m.wg.Wait()
	return errors.Join(err, m.moves.close())
}

// UnitName names the unit of a container.
func (m *Manager) UnitName(id moss.ContainerID) string { return UnitName(m.o.Prefix, id) }

// UnitName names the unit that a container has in the engine of a prefix.
func UnitName(prefix string, id moss.ContainerID) string {
	return prefix + "-" + id.Short() + ".service"
}

// short returns the twelve digits in a unit's name, false for units not ours.
func (m *Manager) short(name string) (string, bool) {
	sub := m.names.FindStringSubmatch(name)
	if sub == nil {
		return "", false
	}
	return sub[1], true
}

// broadcastLocked wakes those that wait for a change.
func (m *Manager) broadcastLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}
