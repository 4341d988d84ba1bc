// Package version holds what the build says about itself. The linker sets the
// variables (see the Makefile).
package version

// Version is the release, Commit the source it was built from, and BuildTime when
// that was written (RFC 3339), so that the same source makes the same programs.
var (
	Version   = "dev"
	Commit    = "unknown"
	BuildTime = ""
)
