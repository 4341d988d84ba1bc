// Package journal writes entries to systemd's journal and reads them from its
// files: the native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL) and the
// file format (https://systemd.io/JOURNAL_FILE_FORMAT). It needs neither
// libsystemd nor a process; what it reads it reads with pread(2), so that a file
// that is cut short under it is an error and no SIGBUS.
package journal
