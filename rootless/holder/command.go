package holder

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/moss-containers/moss/pkg/names"
)

// Command is the command line of moss-rootless and of moss-gvisor, which are the
// same but for gvisor-tap-vsock: it runs a holder as args say.
func Command(args []string, stack *Stack) error {
	var (
		cfg   Config
		cidr  string
		debug bool
	)
	fs := flag.NewFlagSet(names.Rootless, flag.ExitOnError)
	fs.StringVar(&cfg.StateDir, "state-dir", filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "moss", "rootless"), "state `directory`")
	fs.StringVar(&cfg.NetworkDriver, "net", os.Getenv("MOSS_NETWORK_DRIVER"),
		"network `driver`, one of "+strings.Join(names.Drivers(), ", ")+" (or $MOSS_NETWORK_DRIVER)")
	fs.IntVar(&cfg.MTU, "mtu", DefaultMTU, "`bytes` a packet")
	fs.StringVar(&cidr, "cidr", DefaultCIDR.String(), "IPv4 `network` of the network driver")
	fs.BoolVar(&cfg.HostLoopback, "host-loopback", false, "let containers reach the host's 127.0.0.1 at the driver's gateway")
	fs.BoolVar(&cfg.IPv6, "ipv6", false, "let IPv6 out, or do not start")
	fs.BoolVar(&cfg.IPv6Auto, "ipv6-auto", true, "let IPv6 out where the host has a way out and the network driver can")
	fs.BoolVar(&cfg.WayOut, "tcp-way-out", false, "let TCP out past the network drivers slirp4netns and pasta where the kernel can")
	fs.BoolVar(&debug, "debug", false, "log more")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	var err error
	if cfg.CIDR, err = netip.ParsePrefix(cidr); err != nil {
		return fmt.Errorf("-cidr: %w", err)
	}
	cfg.Log = NewLog(os.Stderr, debug)
	slog.SetDefault(cfg.Log)
	cfg.Stack = stack
	return Run(context.Background(), cfg)
}
