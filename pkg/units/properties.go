package units

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/moss"
)

// StartTimeout is how long a launcher may take, TimeoutStartSec= of a container's unit.
const StartTimeout = 90 * time.Second

// Properties returns the properties of a container's transient unit, see
// systemd.service(5) and org.freedesktop.systemd1(5). It fails with class
// Invalid where the resources make no sense.
func Properties(u moss.UnitSpec, o Options) ([]sd.Property, error) {
	o = o.withDefaults()
	limits, err := resourceProperties(u.Resources)
	if err != nil {
		return nil, err
	}
	devices, err := deviceProperties(u.Devices)
	if err != nil {
		return nil, err
	}
	limits = append(limits, devices...)
	if len(u.Launch.Args) == 0 {
		return nil, moss.Errorf(moss.Invalid, "no launcher is given")
	}
	daemon, holder := o.Prefix+".service", o.Prefix+"-rootless.service"
	p := []sd.Property{
		prop("Description", u.Description),
		prop("Type", "forking"),
		prop("PIDFile", u.Launch.PIDFile),
		prop("RemainAfterExit", true),
		prop("CollectMode", "inactive"),
		prop("Slice", cmp.Or(u.Slice, strings.ReplaceAll(o.Prefix, "-", "_")+".slice")), // systemd-units names it
		// The holder has the default dependencies, and takes its containers along; each
		// one's own would only make the manager tell more at every start.
		prop("DefaultDependencies", false),
		prop("BindsTo", []string{holder}),
		// After the daemon too, which therefore outlives the containers when all stop
		// together, and records how each ended.
		prop("After", []string{holder, daemon}),
		prop("ExecStart", []execStart{{u.Launch.Args[0], u.Launch.Args, false}}),
		prop("Environment", notNil(u.Launch.Env)),
		prop("Delegate", true),
		prop("KillMode", "mixed"),
		prop("KillSignal", int32(stopSignal(u.StopSignal))),
		prop("SendSIGKILL", true),
		prop("TimeoutStartUSec", usec(StartTimeout)),
		prop("TimeoutStopUSec", stopTimeout(u.StopTimeout)),
		// The manager's default is to start programs with SIGPIPE ignored.
		prop("IgnoreSIGPIPE", false),
		prop("OOMPolicy", "continue"),
	}
	if u.OomScoreAdj != 0 {
		p = append(p, prop("OOMScoreAdjust", int32(u.OomScoreAdj)))
	}
	p = append(p,
		stream("StandardInput", u.Stdio.Stdin),
		stream("StandardOutput", u.Stdio.Stdout),
		stream("StandardError", u.Stdio.Stderr))
	return append(p, limits...), nil
}

// execStart is one command of ExecStart=: path, arguments with the first, whether failure is ignored.
type execStart struct {
	Path          string
	Args          []string
	IgnoreFailure bool
}

func prop(name string, value any) sd.Property {
	return sd.Property{Name: name, Value: dbus.MakeVariant(value)}
}

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// stream connects a standard stream to a file, or to /dev/null.
func stream(name string, f *os.File) sd.Property {
	if f == nil {
		return prop(name, "null")
	}
	fd := f.Fd() // makes the file blocking, as a program expects its streams to be
	return prop(name+"FileDescriptor", dbus.UnixFD(fd))
}

func stopSignal(s syscall.Signal) syscall.Signal {
	if s == 0 {
		return syscall.SIGTERM
	}
	return s
}

func usec(d time.Duration) uint64 { return uint64(d.Microseconds()) }

// stopTimeout is the time until SIGKILL. The manager takes 0 for no limit, so at once is a millisecond.
func stopTimeout(d time.Duration) uint64 {
	switch {
	case d < 0:
		return math.MaxUint64
	case d < time.Millisecond:
		return usec(time.Millisecond)
	}
	return usec(d)
}

// CheckUlimits refuses hard limits that no unit of the user can have: a process
// may lower its hard limits, never raise them. The runtime sets the limits, in
// the container's process alone; as properties of the unit they would hit the
// launcher too. limit returns the hard limit that units get, as getrlimit(2).
func CheckUlimits(ulimits []moss.Ulimit, limit func(name string) (hard uint64, known bool)) error {
	for _, u := range ulimits {
		hard, known := limit(u.Name)
		if !known {
			return moss.Errorf(moss.Invalid, "invalid ulimit %q: there is no such limit", u.Name)
		}
		want := uint64(u.Hard)
		if u.Hard < 0 {
			want = math.MaxUint64
		}
		if want > hard {
			return moss.Errorf(moss.Invalid,
				"ulimit %s=%s is over the user manager's hard limit of %d; an administrator raises it with: systemctl edit user@.service (Limit%s=)",
				u.Name, limitText(u.Hard), hard, upper(u.Name))
		}
	}
	return nil
}

func limitText(v int64) string {
	if v < 0 {
		return "unlimited"
	}
	return fmt.Sprint(v)
}
