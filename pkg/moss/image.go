package moss

import "time"

// Image is an image in the store.
type Image struct {
	ID           ImageID
	Names        []string // normalised references with a tag: docker.io/library/busybox:latest
	Digests      []string // normalised references with a digest
	Digest       string   // of the manifest
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
