package moss

import (
	"path/filepath"
	"strconv"
	"time"
)

// Annotations of a container that its first connection is to start.
const (
	AnnotationActivate = "moss.activate"            // true: its published ports are listened at while it does not run
	AnnotationIdle     = "moss.activate.idle"       // a duration without connections after which it is stopped
	AnnotationListen   = "moss.activate.listen-fds" // true: its program gets the listening sockets themselves, see sd_listen_fds(3)
)

// Activation says that a container is started by the first connection to one of
// its published ports.
type Activation struct {
	Idle time.Duration // without connections, after which it is stopped; 0 for never
	// Listen says that its program takes the connections itself, from the sockets, which are passed to it.
	Listen bool
}

// Activation reads the annotations; nil where there is none. Errors: Invalid.
func (h HostConfig) Activation() (*Activation, error) {
	asked := false
	idle, timed := h.Annotations[AnnotationIdle]
	listen := false
	for key, value := range map[string]*bool{AnnotationActivate: &asked, AnnotationListen: &listen} {
		text, ok := h.Annotations[key]
		if !ok {
			continue
		}
		var err error
		if *value, err = strconv.ParseBool(text); err != nil {
			return nil, Errorf(Invalid, "invalid annotation %s=%s: it is neither true nor false", key, text)
		}
	}
	switch {
	case !asked && listen:
		return nil, Errorf(Invalid, "annotation %s needs %s=true", AnnotationListen, AnnotationActivate)
	case !asked && timed:
		return nil, Errorf(Invalid, "annotation %s needs %s=true", AnnotationIdle, AnnotationActivate)
	case !asked:
		return nil, nil
	case !timed:
		return &Activation{Listen: listen}, nil
	case listen:
		return nil, Errorf(Invalid, "annotation %s: only its program knows who is connected to it, and ends by itself; leave %s out", AnnotationIdle, AnnotationListen)
	}
	d, err := time.ParseDuration(idle)
	if err != nil || d < time.Second {
		return nil, Errorf(Invalid, "invalid annotation %s=%s: it is no duration of a second or more, such as 90s or 10m", AnnotationIdle, idle)
	}
	return &Activation{Idle: d}, nil
}

// Activated says whether the container's ports are held for it.
func (h HostConfig) Activated() bool {
	a, err := h.Activation()
	return err == nil && a != nil
}

// HeldPorts are what is listened at for a container that does not run.
type HeldPorts struct {
	ID    ContainerID
	Name  string
	Ports []PortBinding
	// Idle and Listen are those of Activation.
	Idle   time.Duration
	Listen bool
}

// EntrySocket is where a container's sockets are to be had that its program
// takes connections from, with the directory of all such sockets.
func EntrySocket(dir string, id ContainerID) string { return filepath.Join(dir, id.Short()+".sock") }
