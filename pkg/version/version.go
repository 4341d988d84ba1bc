// Package version holds what the build says about itself. The linker sets the
// variables (see the Makefile).
package version

// Version is the release, Commit the source it was built from.
var (
	Version = "dev"
	Commit  = "unknown"
)
