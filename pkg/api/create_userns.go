package api

import (
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// userns reads HostConfig.UsernsMode, or the label in its place: docker's own
// client lets only host through.
func (d *createDecoder) userns() error {
	mode := string(d.in.HostConfig.UsernsMode)
	if mode == "" {
		mode = d.in.Labels[moss.UsernsLabel]
	}
	u, err := parseUserns(mode)
	d.out.Host.UsernsMode, d.out.Host.Userns = mode, u
	return err
}

// parseUserns reads podman's keep-id[:uid=…,gid=…], auto[:size=…] and nomap, and
// map:uid=CONTAINER:ENGINE:SIZE,…,gid=….
func parseUserns(s string) (moss.Userns, error) {
	kind, options, _ := strings.Cut(s, ":")
	u := moss.Userns{Mode: moss.UsernsMode(kind)}
	switch {
	case s == "" || s == "host":
		return moss.Userns{}, nil
	case u.Mode != moss.UsernsKeepID && u.Mode != moss.UsernsAuto && u.Mode != moss.UsernsNoMap && u.Mode != moss.UsernsMap,
		u.Mode == moss.UsernsNoMap && options != "":
		return u, invalid("invalid userns mode: %s: want host, keep-id[:uid=…,gid=…], auto[:size=…], nomap or map:uid=CONTAINER:ENGINE:SIZE,…", s)
	}
	if options != "" {
		for o := range strings.SplitSeq(options, ",") {
			if err := usernsOption(&u, o); err != nil {
				return u, invalid("invalid userns mode: %s: %w", s, err)
			}
		}
	}
	if u.Mode == moss.UsernsMap {
		if len(u.Maps.UIDs) == 0 {
			return u, invalid("invalid userns mode: %s: it has no uid=CONTAINER:ENGINE:SIZE", s)
		}
		if len(u.Maps.GIDs) == 0 {
			u.Maps.GIDs = u.Maps.UIDs
		}
	}
	return u, nil
}

func usernsOption(u *moss.Userns, o string) error {
	key, value, _ := strings.Cut(o, "=")
	if u.Mode == moss.UsernsMap && (key == "uid" || key == "gid") {
		m, err := idMap(value)
		if err != nil {
			return err
		}
		if key == "uid" {
			u.Maps.UIDs = append(u.Maps.UIDs, m)
		} else {
			u.Maps.GIDs = append(u.Maps.GIDs, m)
		}
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return invalid("%s is no number", o)
	}
	id := uint32(n)
	switch {
	case u.Mode == moss.UsernsKeepID && key == "uid":
		u.UID = &id
	case u.Mode == moss.UsernsKeepID && key == "gid":
		u.GID = &id
	case u.Mode == moss.UsernsAuto && key == "size" && id > 0:
		u.Size = id
	default:
		return invalid("%s is no option of %s", o, u.Mode)
	}
	return nil
}

func idMap(s string) (moss.IDMap, error) {
	parts := strings.Split(s, ":")
	var n [3]uint32
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 32)
		if err != nil || len(parts) != len(n) {
			return moss.IDMap{}, invalid("%q is not CONTAINER:ENGINE:SIZE", s)
		}
		n[i] = uint32(v)
	}
	return moss.IDMap{Container: n[0], Engine: n[1], Size: n[2]}, nil
}
