package moss

// KeepGroups in place of all further groups leaves a container's process those
// that the user has on the host, podman's word for it. Nobody can give them to
// others: in the container's namespace they have no ids.
const KeepGroups = "keep-groups"

// KeepsGroups says whether that is asked for.
func (h HostConfig) KeepsGroups() bool { return len(h.GroupAdd) == 1 && h.GroupAdd[0] == KeepGroups }
