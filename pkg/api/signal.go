package api

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// The real-time signals that a program may use; libc keeps the first two.
const rtMin, rtMax = 34, 64

// parseSignal reads a signal's number or name, with or without SIG.
func parseSignal(s string) (syscall.Signal, error) {
	bad := moss.Errorf(moss.Invalid, "invalid signal: %s", s)
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > rtMax {
			return 0, bad
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for base, from := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		off := 0
		if rest != "" {
			var err error
			if off, err = strconv.Atoi(rest); err != nil {
				return 0, bad
			}
		}
		if n := from + off; n >= rtMin && n <= rtMax {
			return syscall.Signal(n), nil
		}
		return 0, bad
	}
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	return 0, bad
}
