package api

import (
	"context"
	"io"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Containers changes containers through their life.
type Containers interface {
	// Create makes a container; warnings are for the user.
	Create(ctx context.Context, r CreateRequest) (id moss.ContainerID, warnings []string, err error)
	Start(ctx context.Context, ref string) error
	// Stop sends the stop signal, then after the timeout SIGKILL. A nil timeout is the container's own; negative waits for ever.
	Stop(ctx context.Context, ref string, o StopOptions) error
	Restart(ctx context.Context, ref string, o StopOptions) error
	Remove(ctx context.Context, ref string, force bool) error
}

// CreateRequest, StopOptions and the filters are moss's own nouns.
type (
	CreateRequest   = moss.CreateRequest
	StopOptions     = moss.StopOptions
	ContainerFilter = moss.ContainerFilter
	WaitCondition   = moss.WaitCondition
)

// ContainerViews tells of containers.
type ContainerViews interface {
	// Get finds a container by name, id or unique id prefix.
	Get(ref string) (moss.Container, error)
	List(f ContainerFilter) ([]moss.Container, error)
	// Wait calls ready once it can miss nothing, then returns with the exit code and the error text of the run.
	Wait(ctx context.Context, ref string, c WaitCondition, ready func()) (code int, message string, err error)
	Logs(ctx context.Context, ref string, q moss.LogQuery, fn func(moss.LogLine) error) error
}

// ContainerSignals reaches a running container's process.
type ContainerSignals interface {
	Kill(ctx context.Context, ref string, sig syscall.Signal) error
	// Attach returns nil at the end of the run and after a detach; attached is called when nothing can be missed any more.
	// With logs, what was logged before comes first; without stream it ends there.
	Attach(ctx context.Context, ref string, a moss.AttachIO, logs, stream bool, attached func()) error
	Resize(ctx context.Context, ref string, size moss.TermSize) error
}

// Execs runs processes in containers.
type Execs interface {
	Create(ctx context.Context, ref string, c moss.ExecConfig) (moss.ExecID, error)
	// Start runs it. Detached it returns at once; else at its end. attached as with Attach.
	Start(ctx context.Context, id string, detach bool, size moss.TermSize, a moss.AttachIO, attached func()) error
	Resize(ctx context.Context, id string, size moss.TermSize) error
	Get(id string) (moss.Exec, error)
}

// Images is the image side.
type Images interface {
	Get(ctx context.Context, ref string) (moss.Image, error)
	List(ctx context.Context) ([]moss.Image, error)
	Tag(ctx context.Context, ref, name string) error
	Remove(ctx context.Context, ref string, force, prune bool) ([]moss.ImageRemoval, error)
}

// ImageArchives brings images in.
type ImageArchives interface {
	Load(ctx context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error)
	Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error)
	// Pull makes sure that the image is there. There is no registry client yet: images built in are found,
	// anything else is NotImplemented with the way out (docker load).
	Pull(ctx context.Context, ref string) (moss.Image, error)
}

// Networks tells of the networks.
type Networks interface {
	List(ctx context.Context) ([]moss.Network, error)
}

// System tells of the engine.
type System interface {
	Info(ctx context.Context) (moss.Info, error)
	// Events calls fn with past events from since (zero: none) and then, until until
	// or ctx ends, with those that happen.
	Events(ctx context.Context, since, until time.Time, fn func(moss.Event) error) error
}
