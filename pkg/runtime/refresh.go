package runtime

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Refresh brings the files of a running container that are bound into its /etc
// from one bundle to another. They are written in place: the binds are of the
// files, not of their names. Containers that share another's files are left out.
func (r *Runtime) Refresh(_ context.Context, old, now moss.Bundle) error {
	if _, shared := now.Attachment.Mode.Joins(); shared || now.Attachment.Mode == moss.NetworkHost {
		return nil
	}
	before, err := hostsFile(old, nil)
	after, err2 := hostsFile(now, nil)
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	err = edit(now.Hosts, func(text []byte) []byte { return changeLines(text, before, after) })
	host, hostErr := readOptional("/etc/resolv.conf")
	if hostErr != nil {
		return errors.Join(err, hostErr)
	}
	was, is := resolvFile(old.Container, old.Attachment, host), resolvFile(now.Container, now.Attachment, host)
	if bytes.Equal(was, is) {
		return err
	}
	return errors.Join(err, edit(now.Resolv, func([]byte) []byte { return is }))
}

// changeLines takes the lines away that only before has and appends those that
// only after has.
func changeLines(text, before, after []byte) []byte {
	was, is := slices.Collect(strings.Lines(string(before))), slices.Collect(strings.Lines(string(after)))
	var out bytes.Buffer
	for line := range strings.Lines(string(text)) {
		if slices.Contains(was, line) && !slices.Contains(is, line) {
			continue
		}
		out.WriteString(line)
	}
	if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		out.WriteByte('\n')
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			out.WriteString(line)
		}
	}
	return out.Bytes()
}

// edit changes a file in place. A reader may see the end of the old text behind
// the new one for an instant.
func edit(path string, change func([]byte) []byte) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	next := change(text)
	if bytes.Equal(next, text) {
		return f.Close()
	}
	_, err = f.WriteAt(next, 0)
	if err == nil {
		err = f.Truncate(int64(len(next)))
	}
	return errors.Join(err, f.Close())
}
