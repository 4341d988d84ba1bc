// Package logs keeps the containers' logs. The driver json-file writes the
// file that docker's driver of that name writes, D/containers/<id>/<id>-json.log;
// local writes local-logs/container.log in a compact format of its own; the
// driver none keeps nothing. Full files are numbered .1, .2 and so on, and
// compressed in the background where that is asked for.
//
// The driver journald sends to systemd's journal and reads it again; what it
// writes are docker's fields, which the output streams of a user's units cannot
// carry (systemd reads LogExtraFields= of system units only), so that each chunk
// is copied once, many lines in one message. syslog, gelf and fluentd send to a
// server, and keep a cache in local's format for readers. A server that cannot be
// reached costs its container no more than [wireTimeout] now and then.
//
// For files, output comes in chunks and is on its way to the file when Write returns: no
// incomplete line waits in memory. A line whose pieces come in several chunks,
// or that is longer than 16 KiB, is several entries, all but the last without a
// newline; the reader takes them for one line again. A character that is cut
// between two entries is written byte by byte as \udc80 to \udcff, which the
// reader turns back, so text comes out as it went in. Other bytes that are not
// UTF-8 become U+FFFD, as with docker.
//
// A file has one writer, the sink; any number of readers may read it meanwhile.
// Every method may be called from several goroutines.
package logs
