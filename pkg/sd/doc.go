// Package sd is how a service talks with the manager that started it: ready,
// status and watchdog messages, the sockets it was activated with, and the
// descriptor store that keeps files open while the service is restarted, see
// sd_notify(3), sd_listen_fds(3) and systemd.service(5).
//
// The store: [Notifier.Put] hands a duplicate of each file to the manager under
// a name. The message is on its way when Put returns; [Notifier.Barrier]
// returns when the manager has taken every message sent before. After a
// restart [Inherit] yields what is stored: the manager keeps it there, so that
// a service that is killed at once has it again. [Notifier.Remove] lets go of
// what has a name; a name that is not in the store is no error. Files of one
// name come back in no particular order; give each its own.
//
// A process that no manager started, in the foreground of a terminal, has a
// Notifier too; all its methods do nothing and return nil.
package sd
