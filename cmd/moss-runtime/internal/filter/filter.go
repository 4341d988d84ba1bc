// Package filter takes the compilation of seccomp profiles out of the start of
// containers. libcontainer's init compiles the profile each time with
// libseccomp; here the runtime does it beforehand, once for each profile, and
// keeps the program (Cache), rewritten with fewer instructions and the same
// verdicts (shrink). It hands the program over to the init in a sealed memory
// file (Give, Take).
//
// Once a container has its program, a short profile stands in for the real one
// in its configuration (standIn), so that nobody reads that again; nor does the
// next container with the same profile (recall).
//
// What is handed over carries the key of the filter it was compiled from, and
// init, which builds the filter from its own configuration, uses it for that
// filter alone. Anything else is compiled as ever, or, with a stand-in, refused:
// the cache can be slow, not wrong. Init itself sees nothing of the cache: for an exec it runs beside the
// container's processes, and a directory of the host's, or a file it could
// write, is not for them to be reached through it.
package filter

import (
	"errors"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

// errAsked ends libcontainer's work where it asks for the program.
var errAsked = errors.New("the program has been asked for")

// build lets libcontainer build the filter of profile and calls made with it
// in place of compiling and loading it. Nothing is loaded: libcontainer gets
// no program to load.
func build(profile *configs.Seccomp, made func(*libseccomp.ScmpFilter) error) error {
	var asked bool
	var result error
	libseccomp.SetSource(func(f *libseccomp.ScmpFilter) ([]byte, error) {
		asked, result = true, made(f)
		return nil, errAsked
	})
	defer libseccomp.SetSource(nil)
	_, err := seccomp.InitSeccomp(profile)
	if asked {
		return result
	}
	if err == nil {
		err = errors.New("libcontainer asks for no program")
	}
	return err
}
