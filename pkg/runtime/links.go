package runtime

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// linkLines are the lines of linked containers in /etc/hosts. What follows the
// alias tells them from lines of the user's.
func linkLines(links []moss.LinkedHost) []string {
	var lines []string
	for _, l := range links {
		for _, a := range l.Addresses {
			lines = append(lines, a.String()+"\t"+strings.Join(l.Names, " ")+"\n")
		}
	}
	return lines
}

// RefreshLinks brings the lines of linked containers in a running container's
// hosts up to date, in the place where they are; the rest of the file is the
// container's.
func (r *Runtime) RefreshLinks(_ context.Context, b moss.Bundle, links []moss.LinkedHost) error {
	err := edit(b.Hosts, func(text []byte) []byte { return changeLinks(text, links) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it ends just now
	}
	return err
}

func changeLinks(text []byte, links []moss.LinkedHost) []byte {
	written := make([]bool, len(links))
	var out bytes.Buffer
	for line := range strings.Lines(string(text)) {
		at := slices.IndexFunc(links, func(l moss.LinkedHost) bool { return isLink(line, l) })
		if at < 0 {
			out.WriteString(line)
			continue
		}
		if !written[at] {
			out.WriteString(strings.Join(linkLines(links[at:at+1]), ""))
		}
		written[at] = true
	}
	for i, l := range links {
		if written[i] || len(l.Addresses) == 0 {
			continue
		}
		if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
			out.WriteByte('\n')
		}
		out.WriteString(strings.Join(linkLines(links[i:i+1]), ""))
	}
	return out.Bytes()
}

// isLink says whether a line of hosts is a link's: the alias comes first, and is
// not alone, as it is in a line of --add-host.
func isLink(line string, l moss.LinkedHost) bool {
	_, names, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
	first, rest, more := strings.Cut(names, " ")
	return ok && more && rest != "" && first == l.Names[0]
}
