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

// Linker takes links between containers away.
type Linker interface {
	// Unlink takes the link OWNER/ALIAS away. Errors: NotFound, Conflict for a container's own name.
	Unlink(ctx context.Context, ref string) error
}

// ContainerUpkeep changes containers that are there.
type ContainerUpkeep interface {
	// Rename gives a container another name. Errors: Conflict for one that is taken.
	Rename(ctx context.Context, ref, name string) error
	// Pause makes a container's processes stand still. Errors: NotImplemented where the machine's cgroups cannot.
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	// Update changes limits and the restart policy; warnings are for the user.
	Update(ctx context.Context, ref string, u moss.ContainerUpdate) (warnings []string, err error)
	// Prune removes the containers that do not run and that the filter chooses.
	Prune(ctx context.Context, f moss.PruneFilter) (moss.ContainersPruned, error)
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
	List(f ContainerFilter) ([]*moss.Container, error)
	// Wait calls ready once it can miss nothing, then returns with the exit code and the error text of the run.
	Wait(ctx context.Context, ref string, c WaitCondition, ready func()) (code int, message string, err error)
	Logs(ctx context.Context, ref string, q moss.LogQuery, fn func(moss.LogLine) error) error
}

// ContainerUse tells what containers are doing, and what they take.
type ContainerUse interface {
	Processes(ctx context.Context, ref string) (moss.ProcessList, error)
	// Stats calls fn with what a container uses, every second until it is removed or ctx ends, or once.
	Stats(ctx context.Context, ref string, mode moss.StatsMode, fn func(moss.Stats) error) error
	// Sizes tells what containers take on the disk; those that are gone are left out.
	Sizes(ctx context.Context, ids []moss.ContainerID) (map[moss.ContainerID]moss.ContainerUsage, error)
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
	// Startable is Get for one that is to be started. Errors: Conflict where its container does not run, or is paused.
	Startable(id string) (moss.Exec, error)
}

// Images is the image side.
type Images interface {
	Get(ctx context.Context, ref string) (moss.Image, error)
	List(ctx context.Context) ([]moss.Image, error)
	Tag(ctx context.Context, ref, name string) error
	Remove(ctx context.Context, ref string, force, prune bool) ([]moss.ImageRemoval, error)
	// Prune removes the images that the filter chooses and no container uses, those with names
	// only where Dangling is false, and layers that no image needs.
	Prune(ctx context.Context, f moss.ImageFilter) (moss.ImagePruned, error)
}

// ImageArchives brings images in and out without a registry.
type ImageArchives interface {
	Load(ctx context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error)
	Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error)
	// Save writes nothing when one of the images is not there.
	Save(ctx context.Context, r moss.SaveRequest, w io.Writer) error
	// Attestations returns the statements kept with an image, of all types for none.
	Attestations(ctx context.Context, ref, platform string, types []string) ([]moss.Attestation, error)
}

// ImageTransfers moves images from and to registries.
type ImageTransfers interface {
	// Pull brings an image, or every tag's. What it brought before an error is returned with it.
	Pull(ctx context.Context, r moss.PullRequest, progress func(moss.Progress)) ([]moss.PulledImage, error)
	// Push sends an image, or every tag of a name.
	Push(ctx context.Context, r moss.PushRequest, progress func(moss.Progress)) ([]moss.PushedImage, error)
}

// Registries asks registries.
type Registries interface {
	// Login tries credentials. Errors: Unauthorized when they are refused.
	Login(ctx context.Context, c moss.Credentials) (moss.Login, error)
	Search(ctx context.Context, q moss.SearchQuery) ([]moss.SearchResult, error)
	// Distribution tells what a registry has under a name.
	Distribution(ctx context.Context, ref string, c moss.Credentials) (moss.Distribution, error)
}

// ContainerFiles reads containers' files.
type ContainerFiles interface {
	// Commit makes an image of what a container changed.
	Commit(ctx context.Context, r moss.CommitRequest) (moss.ImageID, error)
	// Export is the tar of a container's whole tree. Reading fails when ctx ends.
	Export(ctx context.Context, ref string) (io.ReadCloser, error)
}

// ContainerCopies copies files in and out of containers.
type ContainerCopies interface {
	// Stat tells of a path. Errors: NotFound.
	Stat(ctx context.Context, ref, path string) (moss.PathStat, error)
	// Pack is the tar of a path; closing it waits until nothing is read any more.
	Pack(ctx context.Context, ref, path string) (moss.PathStat, io.ReadCloser, error)
	// Unpack makes a tar's files below a directory; with keepKinds no directory is replaced by
	// something else, nor the other way round; with asUser all belongs to the container's user.
	// r may still be read after an error.
	Unpack(ctx context.Context, ref, path string, r io.Reader, keepKinds, asUser bool) error
	Changes(ctx context.Context, ref string) ([]moss.Change, error)
}

// Usage tells what takes room on the disk.
type Usage interface {
	Usage(ctx context.Context) (moss.DiskUsage, error)
}

// Networks tells of the networks.
type Networks interface {
	List(ctx context.Context) ([]moss.Network, error)
	// Get finds a network by id, name or unique id prefix.
	Get(ctx context.Context, ref string) (moss.Network, error)
	Create(ctx context.Context, n moss.Network) (id moss.NetworkID, warning string, err error)
	Remove(ctx context.Context, ref string) error
	Prune(ctx context.Context, f moss.PruneFilter) ([]string, error)
	Connect(ctx context.Context, network, container string, e moss.Endpoint) error
	Disconnect(ctx context.Context, network, container string, force bool) error
}

// System tells of the engine.
type System interface {
	Info(ctx context.Context) (moss.Info, error)
	// Events calls fn with past events from since (zero: none) and then, until until
	// or ctx ends, with those that happen.
	Events(ctx context.Context, since, until time.Time, fn func(moss.Event) error) error
}
