package fake

import (
	"fmt"
	"strings"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// Labels makes SELinux labels of a policy that does not exist.
type Labels struct {
	mu    sync.Mutex
	taken map[string]bool // levels
	// Done are the relabellings: "path label", or "path label shared".
	Done []string
}

// NewLabels returns labels of which none is taken.
func NewLabels() *Labels { return &Labels{taken: map[string]bool{}} }

// Make implements engine.Labels.
func (l *Labels) Make(options []string) (moss.SELinux, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	process := map[string]string{"user": "u", "role": "r", "type": "container_t"}
	files := "container_file_t"
	level := ""
	for _, o := range options {
		part, value, _ := strings.Cut(o, ":")
		switch {
		case moss.CheckLabelOption(o) != nil:
			return moss.SELinux{}, moss.CheckLabelOption(o)
		case o == moss.LabelDisable:
			return moss.SELinux{Mount: "u:object_r:container_file_t:s0:c1022,c1023"}, nil
		case part == "level":
			level = value
		case part == "filetype":
			files = value
		default:
			process[part] = value
		}
	}
	for n := 1; level == ""; n++ {
		if next := fmt.Sprintf("s0:c%d,c1000", n); !l.taken[next] {
			level = next
		}
	}
	l.taken[level] = true
	return moss.SELinux{
		Process: strings.Join([]string{process["user"], process["role"], process["type"], level}, ":"),
		Mount:   strings.Join([]string{process["user"], "object_r", files, level}, ":"),
	}, nil
}

func levelOf(label string) string { return strings.Join(strings.Split(label, ":")[3:], ":") }

// Like implements engine.Labels.
func (l *Labels) Like(process string) ([]string, error) {
	p := strings.Split(process, ":")
	return []string{"user:" + p[0], "role:" + p[1], "type:" + p[2], "level:" + levelOf(process)}, nil
}

// Keep implements engine.Labels.
func (l *Labels) Keep(s moss.SELinux) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Process != "" {
		l.taken[levelOf(s.Process)] = true
	}
}

// Free implements engine.Labels.
func (l *Labels) Free(s moss.SELinux) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Process != "" {
		delete(l.taken, levelOf(s.Process))
	}
}

// Relabel implements engine.Labels.
func (l *Labels) Relabel(path string, s moss.SELinux, shared bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	did := path + " " + s.Mount
	if shared {
		did += " shared"
	}
	l.Done = append(l.Done, did)
	return nil
}
