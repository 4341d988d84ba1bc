package moss

import "time"

// What a plugin may implement.
const (
	VolumePlugin = "VolumeDriver"
	LogPlugin    = "LogDriver"
	AuthzPlugin  = "authz"
)

// PluginCall is one call of a method of a plugin.
type PluginCall struct {
	Plugin string
	Kind   string // what the plugin must implement
	Method string // like VolumeDriver.Mount
	In     any    // sent as JSON; nil for nothing
	Out    any    // receives the answer; nil where only its error counts

	// Timeout bounds one attempt; 0 means the usual one.
	Timeout time.Duration
	// Patience is how long to go on trying while the plugin is not there or
	// cannot be connected to; 0 means one attempt.
	Patience time.Duration
}
