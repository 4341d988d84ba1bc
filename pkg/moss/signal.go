package moss

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The bounds of the real-time signals as the C library gives them out (signal(7)).
const (
	sigRTMin = 34
	sigRTMax = 64
)

// ParseSignal reads a signal's number, or its name with or without SIG, in any
// case; RTMIN+n and RTMAX-n too. Errors: Invalid.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, Errorf(Invalid, "invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	if rest, ok := strings.CutPrefix(name, "RTMIN"); ok {
		if n, err := realtimeOffset(rest, "+"); err == nil && sigRTMin+n <= sigRTMax {
			return syscall.Signal(sigRTMin + n), nil
		}
	}
	if rest, ok := strings.CutPrefix(name, "RTMAX"); ok {
		if n, err := realtimeOffset(rest, "-"); err == nil && sigRTMax-n >= sigRTMin {
			return syscall.Signal(sigRTMax - n), nil
		}
	}
	return 0, Errorf(Invalid, "invalid signal: %s", s)
}

func realtimeOffset(s, sign string) (int, error) {
	if s == "" {
		return 0, nil
	}
	rest, ok := strings.CutPrefix(s, sign)
	if !ok {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(rest, 10, 6)
	return int(n), err
}
