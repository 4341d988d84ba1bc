package moss

// Progress is one report of a long task, in the words of docker's progress stream.
type Progress struct {
	ID      string // of the layer (12 digits) or the tag; "" for the task as a whole
	Status  string // "Downloading", "Pull complete", …
	Current int64  // bytes done
	Total   int64  // bytes to do; 0 when there is nothing to count or it is not known
}

// Credentials are what a client shows a registry (X-Registry-Auth). All empty
// means anonymous.
type Credentials struct {
	Username      string
	Password      string
	IdentityToken string // OAuth2 refresh token, in the place of a password
	RegistryToken string // bearer token, sent as it is
	ServerAddress string // of the registry, as the user wrote it
}

// PullRequest asks for an image of a registry.
type PullRequest struct {
	Ref         string // normalised name with a tag or digest; with All a name alone
	All         bool   // every tag of the name
	Platform    string // os/arch[/variant]; "" means this machine's
	Credentials Credentials
}

// PulledImage is one image that a pull found or brought.
type PulledImage struct {
	Ref    string // normalised
	ID     ImageID
	Digest string // of what the reference names at the registry: an index's, if it is one
	New    bool   // it was not there, or not under that name
}

// PushRequest asks to send an image to a registry.
type PushRequest struct {
	Ref         string // normalised name with a tag; with All a name alone
	All         bool   // every tag of the name
	Platform    string // refused where the image has another; "" means any
	Credentials Credentials
}

// PushedImage is one image that a push sent.
type PushedImage struct {
	Tag    string
	Digest string // of the manifest at the registry
	Size   int64  // of the manifest, bytes
}

// Login is a registry's answer to credentials.
type Login struct {
	Status        string
	IdentityToken string // to be kept in the place of the password; may be empty
}

// SearchQuery looks for images at a registry.
type SearchQuery struct {
	Term        string // may begin with a registry's name
	Limit       int    // 0 means docker's 25
	Stars       int    // at least so many
	Official    *bool
	Automated   *bool
	Credentials Credentials
}

// SearchResult is one repository that a search found.
type SearchResult struct {
	Name        string
	Description string
	Stars       int
	Official    bool
	Automated   bool
}

// Distribution is what a registry has under a name.
type Distribution struct {
	MediaType string
	Digest    string
	Size      int64 // of the manifest, bytes
	Platforms []string
	// Annotations of the descriptor.
	Annotations map[string]string
}

// RegistryInfo is the configuration for registries that docker info shows.
type RegistryInfo struct {
	Mirrors  []string
	Insecure []string // host names and CIDRs
}
