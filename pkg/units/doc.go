// Package units runs containers as transient units of the user's systemd. It is
// the one door to D-Bus: nothing else imports godbus or go-systemd's dbus.
//
// A [Manager] has one connection to the user manager, over the manager's own
// socket where that answers (what systemctl does: no message passes through the
// bus daemon), else over the user bus. The manager tells every change of a
// unit's properties with their values, so the Manager keeps the last known
// properties of each container unit and asks only after it has connected.
// A lost connection is made again, for ever, with a growing pause.
//
// The manager sends the properties of a unit before it says that the unit's job
// is done, and before it forgets the unit; exit codes are therefore known also
// for a unit that somebody stopped with systemctl and that is unloaded already.
package units
