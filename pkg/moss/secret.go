package moss

import (
	"encoding/csv"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SecretKind tells secrets from configs, which are kept and used in the same way
// but can be read back.
type SecretKind string

// The kinds.
const (
	KindSecret SecretKind = "secret"
	KindConfig SecretKind = "config"
)

// The types of their events.
const (
	SecretEvent EventType = "secret"
	ConfigEvent EventType = "config"
)

// SecretID is 25 lower-case letters and digits, as docker's swarms have them.
type SecretID string

// Secret is a secret or a config, without its content.
type Secret struct {
	ID      SecretID
	Kind    SecretKind
	Name    string // each once among its kind
	Labels  map[string]string
	Created time.Time
	Updated time.Time
	Version uint64 // counts the changes
}

// SecretRequest is a secret or a config to be made.
type SecretRequest struct {
	Kind   SecretKind
	Name   string
	Labels map[string]string
	Data   []byte
}

// SecretFilter chooses secrets or configs. An empty list in a field means any.
type SecretFilter struct {
	Kind     SecretKind
	Names    []string // whole names
	Prefixes []string // beginnings of names
	IDs      []string // beginnings of ids
	Labels   []string // key or key=value; all must hold
}

// SecretUse is a secret or a config as a file of a container.
type SecretUse struct {
	Kind     SecretKind `json:",omitzero"`
	ID       SecretID   `json:",omitzero"`
	Name     string     `json:",omitzero"`
	Target   string     `json:",omitzero"` // absolute
	Mode     uint32     `json:",omitzero"`
	UID, GID uint32     `json:",omitzero"` // in the container
}

// SecretLabel and ConfigLabel, followed by a name, are the labels by which a
// container asks for a secret or a config: any client can give them. The value
// has the options target, mode, uid and gid, separated by commas; a semicolon
// begins another file of the same.
const (
	SecretLabel = "moss.secret."
	ConfigLabel = "moss.config."
)

// secretMode is docker's mode of the files.
const secretMode = 0o444

// SecretUses reads the labels of a request, in order of their targets. Ids are
// not known yet. Errors: Invalid.
func SecretUses(labels map[string]string) ([]SecretUse, error) {
	var uses []SecretUse
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		u := SecretUse{Kind: KindSecret, Mode: secretMode}
		name, ok := strings.CutPrefix(key, SecretLabel)
		if !ok {
			u.Kind = KindConfig
			if name, ok = strings.CutPrefix(key, ConfigLabel); !ok {
				continue
			}
		}
		if u.Name = name; name == "" {
			return nil, Errorf(Invalid, "invalid label %q: the name of a %s is missing", key, u.Kind)
		}
		for one := range strings.SplitSeq(labels[key], ";") {
			use, err := secretUse(u, one)
			if err != nil {
				return nil, Errorf(Invalid, "invalid value %q of the label %s: %w", labels[key], key, err)
			}
			uses = append(uses, use)
		}
	}
	slices.SortStableFunc(uses, func(a, b SecretUse) int { return strings.Compare(a.Target, b.Target) })
	return uses, nil
}

func secretUse(u SecretUse, options string) (SecretUse, error) {
	u.Target = u.Name
	var parts []string
	if options != "" {
		var err error
		if parts, err = csv.NewReader(strings.NewReader(options)).Read(); err != nil {
			return u, err
		}
	}
	for _, o := range parts {
		key, value, _ := strings.Cut(o, "=")
		bits, base, to := 32, 10, (*uint32)(nil)
		switch key {
		case "target":
			u.Target = value
			continue
		case "mode":
			bits, base, to = 12, 8, &u.Mode
		case "uid":
			to = &u.UID
		case "gid":
			to = &u.GID
		default:
			return u, Errorf(Invalid, "%q is none of target, mode, uid, gid", key)
		}
		n, err := strconv.ParseUint(value, base, bits)
		if err != nil {
			return u, Errorf(Invalid, "%s %q is no number of that kind", key, value)
		}
		*to = uint32(n)
	}
	if !path.IsAbs(u.Target) { // docker's places
		u.Target = path.Join(map[SecretKind]string{KindSecret: "/run/secrets", KindConfig: "/"}[u.Kind], path.Join("/", u.Target))
	}
	if u.Target = path.Clean(u.Target); u.Target == "/" || strings.ContainsRune(u.Target, 0) {
		return u, Errorf(Invalid, "the target is no path of a file")
	}
	return u, nil
}
