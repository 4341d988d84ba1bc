package moss

import (
	"strconv"
	"time"
)

// Annotations of a container that its first connection is to start.
const (
	AnnotationActivate = "moss.activate"      // true: its published ports are listened at while it does not run
	AnnotationIdle     = "moss.activate.idle" // a duration without connections after which it is stopped
)

// Activation says that a container is started by the first connection to one of
// its published ports.
type Activation struct {
	Idle time.Duration // without connections, after which it is stopped; 0 for never
}

// Activation reads the annotations; nil where there is none. Errors: Invalid.
func (h HostConfig) Activation() (*Activation, error) {
	text, asked := h.Annotations[AnnotationActivate]
	idle, timed := h.Annotations[AnnotationIdle]
	if asked {
		var err error
		if asked, err = strconv.ParseBool(text); err != nil {
			return nil, Errorf(Invalid, "invalid annotation %s=%s: it is neither true nor false", AnnotationActivate, text)
		}
	}
	switch {
	case !asked && timed:
		return nil, Errorf(Invalid, "annotation %s needs %s=true", AnnotationIdle, AnnotationActivate)
	case !asked:
		return nil, nil
	case !timed:
		return &Activation{}, nil
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
	Idle  time.Duration // see Activation
}
