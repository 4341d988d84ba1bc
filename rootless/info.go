package rootless

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/moss-containers/moss/pkg/names"
)

// Names in the state directory.
const (
	LockFile     = "lock"
	ChildPIDFile = "child_pid"
	APISockFile  = "api.sock"
	NetNSFile    = "netns"
	InfoFile     = "info.json"
)

// Info is what a running holder says about itself.
type Info struct {
	NetworkDriver string       `json:"networkDriver"`       // never "auto"
	Why           string       `json:"why"`                 // why this driver, for people
	Better        string       `json:"better,omitempty"`    // what another would bring, and how to get it
	ChildIP       netip.Addr   `json:"childIP,omitzero"`    // the namespace's address on the driver's network; invalid with "none"
	DNS           []netip.Addr `json:"dns,omitempty"`       // name servers of the driver, reachable inside the network namespace only
	MTU           int          `json:"mtu,omitempty"`       // bytes; 0 with "none"
	Gateway       netip.Addr   `json:"gateway,omitzero"`    // next hop outwards
	HostLoopback  bool         `json:"hostLoopback"`        // the gateway leads to the host's 127.0.0.1
	IPv6          bool         `json:"ipv6"`                // IPv6 goes out
	ChildPID      int          `json:"childPID"`            // pid in the host's pid namespace
	APISock       string       `json:"apiSock"`             // path
	NetNS         string       `json:"netNS"`               // path, a namespace only inside the holder's mount namespace
	StateDir      string       `json:"stateDir,omitempty"`  // path
	WayOut        *WayOut      `json:"wayOut,omitempty"`    // where TCP need not go out through the driver
	WayOutWhy     string       `json:"wayOutWhy,omitempty"` // why there is none
}

// WayOut is what whoever sets the packet filter must know to have TCP go out past
// the network driver, see package wayout: a SYN that is marked takes it. The rest
// of its connection follows.
type WayOut struct {
	Mark   uint32         `json:"mark"`
	Link   string         `json:"link"`   // device that answers to SYNs come from, to be let through to containers
	Tap    string         `json:"tap"`    // the driver's, that SYNs would otherwise leave by: only those may be marked
	Except []netip.Prefix `json:"except"` // destinations that are the driver's own
}

// TapNetwork6 is the network driver's own, where IPv6 goes out: nobody else can have it.
var TapNetwork6 = netip.MustParsePrefix("fd00::/64")

// ErrNotRunning says that no holder serves this state directory.
var ErrNotRunning = errors.New("the namespace holder does not run; start it with: systemctl --user start moss-rootless.service, or where systemd's user manager is not there: moss system service")

// ReadInfo reads what the holder of a state directory said when it became ready.
// Where none is ready, the error wraps [ErrNotRunning].
func ReadInfo(stateDir string) (Info, error) {
	path := filepath.Join(stateDir, InfoFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("cannot read %s: %w", path, ErrNotRunning)
	}
	if err != nil {
		return Info{}, fmt.Errorf("cannot read what the namespace holder says of itself: %w", err)
	}
	var info Info
	if err := json.Unmarshal(data, &info); err != nil {
		return Info{}, fmt.Errorf("cannot read what the namespace holder says of itself in %s: %w", path, err)
	}
	return info, nil
}

// WriteInfo puts info into its state directory, at once or not at all.
func WriteInfo(info Info) error {
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode the holder's info: %w", err)
	}
	// /run is memory: nothing to sync.
	tmp := filepath.Join(info.StateDir, "."+InfoFile+".new")
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot write the holder's info: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(info.StateDir, InfoFile)); err != nil {
		return fmt.Errorf("cannot write the holder's info: %w", err)
	}
	return nil
}

// ParseDriver checks a configured network driver; empty means "auto".
func ParseDriver(s string) (string, error) {
	if s == "" {
		return names.DriverAuto, nil
	}
	for _, d := range names.Drivers() {
		if s == d {
			return d, nil
		}
	}
	return "", fmt.Errorf("unknown network driver %q, use one of %s", s, strings.Join(names.Drivers(), ", "))
}
