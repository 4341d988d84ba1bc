package runtime

import (
	"maps"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/pkg/moss"
)

// keepGroups tells the OCI runtime not to change the supplementary groups that
// it has been started with; the annotation is crun's, and moss-runtime's too.
const keepGroups = "run.oci.keep_original_groups"

// account is the user of a container's process, who may keep the groups of the
// user on the host.
func (a Accounts) account(h moss.HostConfig, name string, ids uint32) (specs.User, string, error) {
	if !h.KeepsGroups() {
		return a.lookup(name, h.GroupAdd, ids)
	}
	who, home, err := a.lookup(name, nil, ids)
	who.AdditionalGids = nil
	return who, home, err
}

// annotations are the container's, and what the runtime has to know besides.
func annotations(h moss.HostConfig) map[string]string {
	if !h.KeepsGroups() {
		return h.Annotations
	}
	out := maps.Clone(h.Annotations)
	if out == nil {
		out = map[string]string{}
	}
	out[keepGroups] = "1"
	return out
}

// checkGroups refuses to keep groups with a runtime that would drop them.
func checkGroups(h moss.HostConfig, program string) error {
	base := filepath.Base(program)
	if !h.KeepsGroups() || base == "moss-runtime" || strings.HasPrefix(base, "crun") {
		return nil
	}
	return moss.Errorf(moss.NotImplemented, "the runtime %s cannot keep the user's groups (--group-add keep-groups): use moss-runtime or crun", h.Runtime)
}
