package moss

import "time"

// Image is an image in the store.
type Image struct {
	ID           ImageID
	Names        []string // normalised references with a tag: docker.io/library/busybox:latest
	Digests      []string // normalised references with a digest
	Digest       string   // of the manifest
	MediaType    string   // of the manifest; "" when not known
	ManifestSize int64    // bytes; 0 when not known
	Created      time.Time
	Size         int64 // bytes of all layers, unpacked
	Author       string
	Comment      string
	Architecture string
	Variant      string
	OS           string
	Config       ContainerConfig
	DiffIDs      []string
	LayerSizes   []int64 // bytes of each layer, unpacked, in the order of DiffIDs; nil when not known
	History      []HistoryEntry
	TaggedAt     time.Time // last time a name was given; zero when unknown
}

// HistoryEntry is one step of an image's making.
type HistoryEntry struct {
	Created    time.Time
	CreatedBy  string
	Author     string
	Comment    string
	EmptyLayer bool
}

// ImageRemoval is one thing that removing an image did: a name taken away or
// an image deleted.
type ImageRemoval struct {
	Untagged string
	Deleted  ImageID
}

// LoadedImage is one image that came out of an archive.
type LoadedImage struct {
	ID   ImageID
	Name string // familiar form, e.g. busybox:latest; "" when it had none
}

// ImportOptions say what to make of an imported root file system.
type ImportOptions struct {
	Reference    string // name[:tag]; may be empty
	Message      string
	Changes      []string // Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, STOPSIGNAL, ONBUILD
	Architecture string   // "" means this machine's
	OS           string
	Variant      string
}

// LoadOptions say what to take out of an archive.
type LoadOptions struct {
	Platform string // os/arch[/variant] of the images wanted; "" means this machine's, or the only one there is
}

// SaveRequest asks for an archive of images.
type SaveRequest struct {
	Refs     []string // names, ids or id prefixes; a name without a tag means all its tags
	Platform string   // refused where an image has another; "" means any
}

// CommitRequest asks for an image of a container's files.
type CommitRequest struct {
	Container string // name, id or id prefix
	Reference string // name[:tag]; may be empty
	Author    string
	Message   string
	Changes   []string         // Dockerfile instructions, as with ImportOptions
	Config    *ContainerConfig // in place of the container's; may be nil
	Pause     bool             // freeze the container's processes meanwhile
}

// NewImage is what an image is made of beside the one layer that is added.
type NewImage struct {
	Base      ImageID // its layers and history come first; "" for none
	Reference string  // normalised name:tag; may be empty
	Author    string
	Message   string
	CreatedBy string // for the history
	Config    ContainerConfig
	Container ContainerID // it is made from; may be empty
	Changes   []string    // Dockerfile instructions, applied to Config
}

// ImageFilter chooses images. An empty field means any.
type ImageFilter struct {
	Dangling *bool
	Labels   []string // key or key=value; all must hold
	NotLabel []string // none may hold
	Until    time.Time
}

// Attestation is a statement about an image, kept beside it (in-toto).
type Attestation struct {
	PredicateType string
	MediaType     string
	Digest        string
	Statement     []byte // JSON
}

// ImagePruned is what a prune of images did.
type ImagePruned struct {
	Removed   []ImageRemoval
	Reclaimed int64 // bytes
}

// DiskUsage tells what the engine's things take on the disk, from sizes that are kept.
type DiskUsage struct {
	Images     []ImageUsage
	LayersSize int64 // bytes of the images' layers, each counted once, and of their copies
	Unused     int64 // bytes of layers that nobody needs: of pulls that were cut short, and spare copies
	Containers []ContainerUsage
	Volumes    []VolumeUsage
}

// ImageUsage is one image's part.
type ImageUsage struct {
	Image      Image
	SharedSize int64 // bytes of layers that other images have too
	Copies     int64 // bytes of its copies for user namespaces, as far as containers have them
	Containers int   // that use it
}

// ContainerUsage is one container's part.
type ContainerUsage struct {
	Container Container
	Written   int64 // bytes of the writable layer
	Total     int64 // bytes with the image
}
