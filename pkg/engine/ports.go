package engine

import (
	"context"
	"io"
	"net/netip"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// The interfaces below are what the engine needs of its adapters. Each has a
// contract suite that the fake and the real adapter pass. All methods may be
// called from several goroutines, but never twice at once for one container.

// ImageStore keeps images (pkg/image).
type ImageStore interface {
	// Resolve finds an image by name, id or unique id prefix. Errors: NotFound, Invalid, Conflict when ambiguous.
	Resolve(ctx context.Context, ref string) (moss.Image, error)
	// List returns every image, from memory.
	List(ctx context.Context) ([]moss.Image, error)
	// Tag gives an image a further name, taking it from the image that had it. It
	// returns the normalised name.
	Tag(ctx context.Context, id moss.ImageID, name string) (string, error)
	// Untag takes one name, with a tag or a digest, away. Errors: NotFound.
	Untag(ctx context.Context, name string) error
	// Delete removes an image that has no names left, with the layers only it used, which it tells by their
	// chain ids. Errors: NotFound, Conflict while it has names, a container stands on it, or it is on its way in.
	Delete(ctx context.Context, id moss.ImageID) ([]moss.ImageRemoval, error)
}

// ImageArchives brings images in without a registry (pkg/image).
type ImageArchives interface {
	// Load reads a docker- or OCI-archive, compressed or not.
	Load(ctx context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error)
	// Import makes a one-layer image of a root file system's tar.
	Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error)
	// EnsureBuiltin puts the images that come with moss into the store where ref names one
	// that is not there; false when ref names none of them.
	EnsureBuiltin(ctx context.Context, ref string) (bool, error)
}

// ImageSaver writes archives of images (pkg/image).
type ImageSaver interface {
	// Save writes an archive that is a docker-archive and an OCI layout at once. Nothing is written when
	// one of the images is not there.
	Save(ctx context.Context, r moss.SaveRequest, w io.Writer) ([]moss.ImageID, error)
}

// ImageTransfers move images from and to registries (pkg/image).
type ImageTransfers interface {
	// Pull brings an image, or every tag's, unless it is there. What it brought before an error is returned with it.
	Pull(ctx context.Context, r moss.PullRequest, progress func(moss.Progress)) ([]moss.PulledImage, error)
	// Push sends an image, or every tag of a name.
	Push(ctx context.Context, r moss.PushRequest, progress func(moss.Progress)) ([]moss.PushedImage, error)
}

// Registries asks registries (pkg/image/registry).
type Registries interface {
	// Login tries credentials. Errors: Unauthorized when they are refused.
	Login(ctx context.Context, c moss.Credentials) (moss.Login, error)
	Search(ctx context.Context, q moss.SearchQuery) ([]moss.SearchResult, error)
	// Distribution tells what a registry has under a name.
	Distribution(ctx context.Context, ref string, c moss.Credentials) (moss.Distribution, error)
	// Info is the configuration, for docker info.
	Info() moss.RegistryInfo
}

// ImageMaker makes images of layers (pkg/image).
type ImageMaker interface {
	// Make adds a layer, whose tar is read from diff, on top of a base.
	Make(ctx context.Context, n moss.NewImage, diff io.Reader) (moss.ImageID, error)
	// Attestations returns the statements kept with an image, of all types for none.
	Attestations(ctx context.Context, id moss.ImageID, types []string) ([]moss.Attestation, error)
}

// ImageSpace tells of and frees what no image needs (pkg/image): finished layers
// of pulls that were cut short, kept for the next try, and copies for user
// namespaces that no container has.
type ImageSpace interface {
	// Usage tells what Collect would free, and the bytes of the images' copies that containers have.
	Usage(ctx context.Context) (unused int64, copies map[moss.ImageID]int64, err error)
	// Collect removes what is unused, but for those that a running transfer is about to use.
	Collect(ctx context.Context) (bytes int64, err error)
}

// Rootfs keeps the containers' root file systems (pkg/storage).
type Rootfs interface {
	// Create makes the writable layer on top of an image.
	Create(ctx context.Context, id moss.ContainerID, image moss.ImageID) error
	// Mount mounts it; mounting what is mounted gives the same mount again.
	Mount(ctx context.Context, id moss.ContainerID) (moss.Mount, error)
	// Unmount unmounts it; nil when it is not mounted or does not exist.
	Unmount(ctx context.Context, id moss.ContainerID) error
	// Remove unmounts and deletes the writable layer; nil when it does not exist.
	Remove(ctx context.Context, id moss.ContainerID) error
	// List names the containers that have a layer.
	List(ctx context.Context) ([]moss.ContainerID, error)
}

// VolatileRootfs is a Rootfs that can do without syncing a layer that nobody
// will want after the loss of power.
type VolatileRootfs interface {
	CreateVolatile(ctx context.Context, id moss.ContainerID, image moss.ImageID) error
}

// MappedRootfs is a Rootfs for containers with user namespaces of their own: what
// an image gives to an id belongs to the engine's id that it is by the maps. What
// is read of such a container, and written to it, speaks of the container's ids.
type MappedRootfs interface {
	// CreateMapped is Create, or with volatile VolatileRootfs's. Errors: Invalid where the image has ids that the maps do not.
	CreateMapped(ctx context.Context, id moss.ContainerID, image moss.ImageID, maps moss.IDMaps, volatile bool) error
}

// LabelledRootfs is a Rootfs that gives files an SELinux label, which lasts as long as the mount.
type LabelledRootfs interface {
	MountLabelled(ctx context.Context, id moss.ContainerID, label string) (moss.Mount, error)
}

// MortalRootfs is a Rootfs whose mounts can come to an end by themselves, as a process serves each.
type MortalRootfs interface {
	// Alive fails, with the way out, when the root file system of a main process is not to be had any more.
	Alive(pid int) error
}

// LateRootfs is a Rootfs that may be opened behind the start: whoever needs it waits for that.
type LateRootfs interface {
	// WhenOpen has fn called once it is open, before anybody else can do anything with it.
	WhenOpen(fn func(ctx context.Context, r Rootfs))
}

// Labels makes SELinux labels (pkg/selinux).
type Labels interface {
	// Make gives labels with categories that no other container has, changed by options. Errors: Invalid.
	Make(options []string) (moss.SELinux, error)
	// Like are the options that give the categories of a process's label.
	Like(process string) ([]string, error)
	// Keep takes the categories of a container that there is, Free gives them back.
	Keep(l moss.SELinux)
	Free(l moss.SELinux)
	// Relabel labels a tree for one container, or for all.
	Relabel(path string, l moss.SELinux, shared bool) error
}

// RootfsFiles reads the containers' files (pkg/storage). The readers fail when ctx ends.
type RootfsFiles interface {
	// Diff is the layer tar of what the container changed, with OCI whiteouts. It works
	// while the container runs, and on one that never did.
	Diff(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error)
	// Export is the tar of the whole tree.
	Export(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error)
	// Written is the size of what the container changed, in bytes.
	Written(ctx context.Context, id moss.ContainerID) (int64, error)
}

// ContainerPaths copies files in and out of containers (pkg/storage), which may
// run or not. Paths are of the container: links are followed within its root.
// The root file system is mounted. All fail when ctx ends.
type ContainerPaths interface {
	// Stat tells of a path. Errors: NotFound.
	Stat(ctx context.Context, v moss.View, path string) (moss.PathStat, error)
	// Pack is the tar of a path; it is read until it is closed. Errors: NotFound.
	Pack(ctx context.Context, v moss.View, path string) (moss.PathStat, io.ReadCloser, error)
	// Unpack makes a tar's files below a directory. Errors: NotFound, Invalid where it is no
	// directory, or may not be written to.
	Unpack(ctx context.Context, v moss.View, path string, r io.Reader, o moss.UnpackOptions) error
	// Changes tells what the container changed in its image's files, mounted or not.
	Changes(ctx context.Context, id moss.ContainerID) ([]moss.Change, error)
}

// Networks attaches containers to networks (pkg/network).
type Networks interface {
	// Attach makes the network namespace and its link; for mode host it makes nothing.
	Attach(ctx context.Context, c *moss.Container) (moss.Attachment, error)
	// Detach undoes Attach and closes ports still open; nil when nothing is left.
	Detach(ctx context.Context, id moss.ContainerID, a moss.Attachment) error
	// Publish opens ports, all or none. Errors: Conflict for a port in use, Forbidden for one below the privileged limit.
	Publish(ctx context.Context, id moss.ContainerID, a moss.Attachment, ports []moss.PortBinding) ([]moss.PublishedPort, error)
	// Restore takes over what running containers have and removes everything else of ours.
	Restore(ctx context.Context, running map[moss.ContainerID]moss.Attachment) error
	// List returns the networks there are.
	List(ctx context.Context) ([]moss.Network, error)
}

// NameFollower is a Networks that gives a running container's new name to its networks.
type NameFollower interface {
	// Rename returns the attachment as the record has to keep it; nothing can fail.
	Rename(c *moss.Container, a moss.Attachment) moss.Attachment
}

// Activator listens at the ports of containers that their first connection
// starts, whether or not the engine runs (pkg/units).
type Activator interface {
	// Hold listens from now on; where that is done already, it goes on. Errors: Conflict for a
	// port in use, Forbidden for one below the privileged limit.
	Hold(ctx context.Context, h moss.HeldPorts) error
	// Release ends that, and the connections; nil when there is nothing.
	Release(ctx context.Context, id moss.ContainerID) error
	// Held are the short ids of the containers for which there is something to release.
	Held(ctx context.Context) ([]string, error)
}

// Volumes keeps volumes (pkg/volume).
type Volumes interface {
	// Create makes a volume; one that is there is it already, unless other options are asked for.
	// Errors: Invalid, NotFound for the driver, NotImplemented, Conflict.
	Create(ctx context.Context, r moss.VolumeRequest) (v moss.Volume, created bool, err error)
	// Get finds a volume. Errors: NotFound.
	Get(name string) (moss.Volume, error)
	// List returns every volume by name, from memory.
	List() []moss.Volume
	// Remove takes a volume away with its files. Errors: NotFound.
	Remove(ctx context.Context, name string) error
}

// VolumeData looks after the files of volumes (pkg/volume).
type VolumeData interface {
	// Fill copies a directory of a root file system into a volume that is empty, whole or not at all.
	Fill(ctx context.Context, name string, from moss.Mount, dir string) error
	// Size is what its files take, in bytes. Errors: NotFound.
	Size(ctx context.Context, name string) (int64, error)
}

// VolumeMounts mounts what volumes need (pkg/volume).
type VolumeMounts interface {
	// Mount puts in place what a volume's options ask for, or what its driver has for the container; nil when it is there.
	Mount(ctx context.Context, name string, id moss.ContainerID) error
	// Unmount takes that away; nil when there is nothing. What options ask for goes for all containers.
	Unmount(ctx context.Context, name string, id moss.ContainerID) error
	// Expose gives a container's mounts of volumes and images as binds; parts of them are pinned until Conceal.
	Expose(ctx context.Context, id moss.ContainerID, points []moss.MountPoint) ([]moss.MountPoint, error)
	// Conceal undoes Expose; nil when nothing is left.
	Conceal(ctx context.Context, id moss.ContainerID) error
}

// Secrets keeps secrets and configs (pkg/secret).
type Secrets interface {
	// Create makes one. Errors: Invalid, Conflict for a name in use.
	Create(ctx context.Context, r moss.SecretRequest) (moss.Secret, error)
	// List returns those of a kind by name, from memory.
	List(kind moss.SecretKind) []moss.Secret
	// Relabel changes the labels of the version told. Errors: NotFound, Invalid for another version.
	Relabel(ctx context.Context, id moss.SecretID, version uint64, labels map[string]string) (moss.Secret, error)
	// Remove takes one away. Errors: NotFound.
	Remove(ctx context.Context, id moss.SecretID) error
	// Data is the content. Errors: NotFound.
	Data(ctx context.Context, id moss.SecretID) ([]byte, error)
}

// SecretFiles puts secrets and configs where containers can have them (pkg/secret).
type SecretFiles interface {
	// Place writes a container's files, in place of those it had, and gives them as binds.
	Place(ctx context.Context, id moss.ContainerID, uses []moss.SecretUse) ([]moss.MountPoint, error)
	// Withdraw removes them; nil when there are none.
	Withdraw(ctx context.Context, id moss.ContainerID) error
}

// VolumeDrivers keeps volumes whose driver is a server of its own (pkg/volume).
type VolumeDrivers interface {
	// Look returns a volume as its driver tells it now, also one that only a driver knows. Errors: NotFound, Unavailable.
	Look(ctx context.Context, name string) (moss.Volume, error)
	// Listed returns every volume by name, as the drivers tell them now, with a warning for each driver that cannot be asked.
	Listed(ctx context.Context) (all []moss.Volume, warnings []string)
	// Adopt makes a volume that only a driver knows one of those that Get finds. Errors: NotFound.
	Adopt(ctx context.Context, name string) (moss.Volume, error)
	// Forget makes Get find it no more, whatever its driver has.
	Forget(ctx context.Context, name string) error
	// Settle is called once, with what containers run: what others have mounted is let go of, behind.
	Settle(runs func(moss.ContainerID) bool)
}

// NetworkMaker makes networks, and changes the place of running containers in
// them (pkg/network). The built-in networks are always there.
type NetworkMaker interface {
	// Create makes a network and completes what is asked for: subnets, gateways. Errors: Conflict for a name in use,
	// Forbidden for a subnet in use, Invalid, NotImplemented for a driver.
	Create(ctx context.Context, n moss.Network) (moss.Network, error)
	// Remove takes a network away. Errors: NotFound, Forbidden while containers are attached.
	Remove(ctx context.Context, id moss.NetworkID) error
	// Adopt makes the networks of the records work again; others are removed. It is called once, before Restore.
	Adopt(ctx context.Context, nets []moss.Network) error
	// Connect gives a running container a place in a further network, named by name or id. Errors: NotFound.
	Connect(ctx context.Context, c *moss.Container, a moss.Attachment, network string, e moss.Endpoint) (moss.Attachment, error)
	// Disconnect takes a running container out of a network. Errors: NotFound where it is not in it.
	Disconnect(ctx context.Context, id moss.ContainerID, a moss.Attachment, network moss.NetworkID) (moss.Attachment, error)
}

// Overlaps is what a [NetworkMaker] may know of the host (pkg/network).
type Overlaps interface {
	// Hides is a network that the host reaches and containers, because of this one, do not; the zero Prefix for none.
	Hides(n moss.Network) netip.Prefix
}

// NetworkRecords keeps the records of networks (pkg/records); they survive the loss of power.
type NetworkRecords interface {
	PutNetwork(n moss.Network) error
	DeleteNetwork(id moss.NetworkID) error // nil when there is none
	// LoadNetworks returns all that can be read; what cannot is in bad, by key, and stays.
	LoadNetworks() (all []moss.Network, bad map[string]error, err error)
}

// Runtime turns containers into OCI bundles and drives the OCI runtime (pkg/runtime).
type Runtime interface {
	// Prepare writes the bundle and returns the command that creates the container.
	Prepare(ctx context.Context, b moss.Bundle) (moss.Launch, error)
	// Failure reads why the command of Prepare failed; nil when it says nothing. Its
	// message has the words docker's clients look for ("executable file not found in $PATH").
	Failure(c *moss.Container) error
	// Start lets a created container's process go. Errors: Conflict where it has been let go, or has ended.
	Start(ctx context.Context, c *moss.Container) error
	// Delete removes what the runtime and the bundle keep; nil when nothing is left. It kills what still runs.
	Delete(ctx context.Context, c *moss.Container) error
	// Exec starts a process in the container and returns when it runs.
	Exec(ctx context.Context, c *moss.Container, e *moss.Exec, io moss.ChildStdio) (Process, error)
}

// ProbeEnder is a Runtime that can end the health checks' processes that an
// earlier daemon has begun and not seen end.
type ProbeEnder interface {
	EndProbes(ctx context.Context, id moss.ContainerID) error
}

// MountChecker is a Runtime that can tell before a container is made that what it
// is to be given is not there.
type MountChecker interface {
	// CheckMounts looks for the sources of binds that are not to be made. Errors: Invalid.
	CheckMounts(asked []moss.MountPoint) error
}

// FileRefresher is a Runtime that can bring a running container's /etc/hosts and
// /etc/resolv.conf up to date.
type FileRefresher interface {
	// Refresh writes what is other for the new bundle than for the old one; what
	// the container has put into its hosts itself stays.
	Refresh(ctx context.Context, old, now moss.Bundle) error
}

// LinkRefresher is a Runtime that can bring the links in a running container's
// /etc/hosts up to date.
type LinkRefresher interface {
	// RefreshLinks gives the links the addresses they have now; none takes a link away.
	RefreshLinks(ctx context.Context, b moss.Bundle, links []moss.LinkedHost) error
}

// GroupKiller is a Process that can be killed together with what it has started.
type GroupKiller interface {
	// KillGroup does nothing once the process has ended.
	KillGroup() error
}

// Process is a running exec; the noun's package has it, as adapters make them.
type Process = moss.Process

// Units runs containers as units of the user's systemd (pkg/units).
type Units interface {
	// Start starts the unit and returns when the launcher has succeeded and the
	// main process is known. On failure the unit is gone.
	Start(ctx context.Context, u moss.UnitSpec) (moss.UnitStatus, error)
	// Kill signals the main process alone. Errors: Conflict when there is none.
	Kill(ctx context.Context, id moss.ContainerID, sig syscall.Signal) error
	// Collect makes an ended unit go away, killing what is left in it; nil when it is gone.
	Collect(ctx context.Context, id moss.ContainerID) error
	// List returns the status of every container unit of this engine.
	List(ctx context.Context) ([]moss.UnitStatus, error)
	// Watch calls fn, one call at a time, with every change of phase of a container unit until ctx ends.
	// After a lost connection it connects again and calls fn with every unit's present status.
	Watch(ctx context.Context, fn func(moss.UnitStatus)) error
}

// Freezer holds a unit's processes still (pkg/units).
type Freezer interface {
	// Freeze returns when all processes stand still. Errors: NotImplemented where the machine's cgroups cannot.
	Freeze(ctx context.Context, id moss.ContainerID) error
	Thaw(ctx context.Context, id moss.ContainerID) error
}

// Expecter gains from knowing of a start before it comes (pkg/units).
type Expecter interface {
	// Expect is told that a unit is about to be started, or may be, and returns at once.
	Expect()
}

// UnitHistory knows what nobody watched (pkg/units).
type UnitHistory interface {
	// Past tells of a unit's run that started then. Errors: Unavailable where what is written of it may not be read.
	Past(ctx context.Context, id moss.ContainerID, since time.Time) (moss.UnitPast, error)
}

// DeviceChecker can tell before a container is made that what it is to be limited at is no block device (pkg/units).
type DeviceChecker interface {
	// CheckDevices looks for the devices. Errors: Invalid, which names those that are none.
	CheckDevices(limits []moss.DeviceLimit) error
}

// Limiter changes running units (pkg/units).
type Limiter interface {
	// Limit gives a unit all limits in place of those it had. Errors: Conflict when it does not run, Invalid.
	Limit(ctx context.Context, id moss.ContainerID, r moss.Resources) error
}

// Meter looks at the processes of running containers, which it knows by their
// main one (pkg/meter). Errors: Conflict when that does not run, or is about to be gone.
type Meter interface {
	Processes(ctx context.Context, id moss.ContainerID, pid int) (moss.ProcessList, error)
	Sample(ctx context.Context, id moss.ContainerID, pid int) (moss.Sample, error)
}

// Stdio keeps the standard streams of processes (pkg/stdio).
type Stdio interface {
	// Open makes the streams of one run, stores our ends, and pumps output into sink (nil for none)
	// and to those attached.
	Open(ctx context.Context, id moss.StreamID, s moss.StdioSpec, sink LogSink) (moss.ChildStdio, error)
	// Ready returns when our ends are safely stored: with a terminal, when the runtime has sent it.
	Ready(ctx context.Context, id moss.StreamID) error
	// Restore finds the ends of a running process in the descriptor store and pumps on.
	Restore(ctx context.Context, id moss.StreamID, s moss.StdioSpec, sink LogSink) error
	// Finish is called once the process has ended: it pumps what is left, ends the attachments, closes and forgets the ends and closes the sink.
	Finish(ctx context.Context, id moss.StreamID) error
	// Forget closes stored ends that belong to none of the ids.
	Forget(keep map[moss.StreamID]bool) error
}

// Attacher lets clients at the streams of a process (pkg/stdio).
type Attacher interface {
	// Attach joins a client before or during a run: attached is called as soon as
	// no later output can be missed. It returns nil at the end of the run,
	// ErrDetached after the detach keys, ctx's error when that ends.
	Attach(ctx context.Context, id moss.StreamID, a moss.AttachIO, attached func()) error
	// Resize sets the terminal's size. Errors: Conflict without a terminal.
	Resize(id moss.StreamID, size moss.TermSize) error
	// Drop ends the attachments of a process that will not run.
	Drop(id moss.StreamID)
}

// LogSink takes a container's output; the noun's package has it, as adapters
// that must not know the engine take it too.
type LogSink = moss.LogSink

// Logs keeps the containers' logs (pkg/logs).
type Logs interface {
	// Check says whether the driver and its options can be had. Errors: Invalid, NotImplemented.
	Check(c moss.LogConfig) error
	// Open starts or continues the log of a container; a nil sink means that nothing is kept.
	Open(c *moss.Container) (LogSink, error)
	// Read calls fn with each line asked for, in order; with Follow until the run ends or ctx does.
	Read(ctx context.Context, c *moss.Container, q moss.LogQuery, fn func(moss.LogLine) error) error
	// Remove deletes the log.
	Remove(c *moss.Container) error
}

// Records keeps the containers' records (pkg/records).
type Records interface {
	// Put stores a record. When it returns, it survives kill -9; a durable record
	// survives the loss of power too.
	Put(c *moss.Container, durable bool) error
	Delete(id moss.ContainerID) error
	// Load returns all that can be read; what cannot is in bad, by key, and stays on disk.
	Load() (all []*moss.Container, bad map[string]error, err error)
}

// Events publishes what happened (pkg/events).
type Events interface {
	Publish(e moss.Event)
}

// Tracer follows what the engine does for a container that no request asks for.
type Tracer interface {
	// Begin is called when an exit is dealt with ("exit"), when the restart policy starts a container ("restart") and
	// when one is brought into agreement with its unit ("restore"). The context goes with it; the function is called at the end.
	Begin(ctx context.Context, what string, c *moss.Container) (context.Context, func(now *moss.Container, err error))
}

// ErrDetached is what Attach returns after the client typed the detach keys.
var ErrDetached = moss.ErrDetached
