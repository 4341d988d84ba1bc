package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// document is an image's configuration as it is stored: the OCI image
// configuration with the fields that docker adds.
type document struct {
	Created      *time.Time  `json:"created,omitempty"`
	Author       string      `json:"author,omitempty"`
	Comment      string      `json:"comment,omitempty"`
	Architecture string      `json:"architecture"`
	Variant      string      `json:"variant,omitempty"`
	OS           string      `json:"os"`
	Config       *runConfig  `json:"config,omitempty"`
	RootFS       rootFS      `json:"rootfs"`
	History      []histEntry `json:"history,omitempty"`
	Container    string      `json:"container,omitempty"` // that it was made of
}

type rootFS struct {
	Type    string          `json:"type"`
	DiffIDs []digest.Digest `json:"diff_ids"`
}

type histEntry struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

type runConfig struct {
	Hostname     string              `json:",omitempty"`
	Domainname   string              `json:",omitempty"`
	User         string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	StopTimeout  *int                `json:",omitempty"`
	OnBuild      []string            `json:",omitempty"`
	Shell        []string            `json:",omitempty"`
	Healthcheck  *healthcheck        `json:",omitempty"`
}

type healthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"` // nanoseconds, as docker has it
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// decodeConfig reads an image's configuration into the fields of an Image that
// come from it.
func decodeConfig(b []byte) (moss.Image, error) {
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return moss.Image{}, fmt.Errorf("image configuration: %w", err)
	}
	im := moss.Image{
		Author: d.Author, Comment: d.Comment, Architecture: d.Architecture, Variant: d.Variant, OS: d.OS,
		Created: timeOf(d.Created),
	}
	for _, id := range d.RootFS.DiffIDs {
		im.DiffIDs = append(im.DiffIDs, id.String())
	}
	for _, h := range d.History {
		im.History = append(im.History, moss.HistoryEntry{Created: timeOf(h.Created), CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment, EmptyLayer: h.EmptyLayer})
	}
	if d.Config == nil {
		return im, nil
	}
	c := d.Config
	im.Config = moss.ContainerConfig{
		Hostname: c.Hostname, Domainname: c.Domainname, User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd,
		Volumes: slices.Sorted(maps.Keys(c.Volumes)), WorkingDir: c.WorkingDir, Labels: c.Labels,
		StopSignal: c.StopSignal, StopTimeout: c.StopTimeout, OnBuild: c.OnBuild, Shell: c.Shell,
	}
	if h := c.Healthcheck; h != nil {
		im.Config.Healthcheck = &moss.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	for spec := range c.ExposedPorts {
		ports, err := parsePorts(spec)
		if err != nil {
			return moss.Image{}, fmt.Errorf("image configuration: %w", err)
		}
		im.Config.ExposedPorts = append(im.Config.ExposedPorts, ports...)
	}
	sortPorts(im.Config.ExposedPorts)
	return im, nil
}

// encodeBuilt is the inverse for an image of ours.
func encodeBuilt(b building) ([]byte, error) {
	im, c := b.image, b.image.Config
	d := document{
		Created: &im.Created, Author: im.Author, Comment: im.Comment, Architecture: im.Architecture, Variant: im.Variant, OS: im.OS,
		Config: &runConfig{
			Hostname: c.Hostname, Domainname: c.Domainname,
			User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, Labels: c.Labels,
			StopSignal: c.StopSignal, StopTimeout: c.StopTimeout, OnBuild: c.OnBuild, Shell: c.Shell,
		},
		RootFS:    rootFS{Type: "layers"},
		Container: string(b.container),
	}
	if h := c.Healthcheck; h != nil {
		d.Config.Healthcheck = &healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	for _, id := range im.DiffIDs {
		d.RootFS.DiffIDs = append(d.RootFS.DiffIDs, digest.Digest(id))
	}
	for _, h := range im.History {
		d.History = append(d.History, histEntry{Created: &h.Created, CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment, EmptyLayer: h.EmptyLayer})
	}
	for _, v := range c.Volumes {
		set(&d.Config.Volumes, v)
	}
	for _, p := range c.ExposedPorts {
		set(&d.Config.ExposedPorts, strconv.Itoa(int(p.Number))+"/"+string(p.Proto))
	}
	return json.Marshal(d)
}

func set(m *map[string]struct{}, key string) {
	if *m == nil {
		*m = map[string]struct{}{}
	}
	(*m)[key] = struct{}{}
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// parsePorts reads 80, 80/tcp or 8000-8010/udp.
func parsePorts(spec string) ([]moss.Port, error) {
	numbers, proto, has := strings.Cut(spec, "/")
	p := moss.Protocol(strings.ToLower(proto))
	switch {
	case !has:
		p = moss.TCP
	case p != moss.TCP && p != moss.UDP && p != moss.SCTP:
		return nil, fmt.Errorf("port %q: the protocol is not tcp, udp or sctp", spec)
	}
	low, high, ranged := strings.Cut(numbers, "-")
	if !ranged {
		high = low
	}
	from, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: not a number from 1 to 65535", spec)
	}
	to, err := strconv.ParseUint(high, 10, 16)
	if err != nil || from == 0 || to < from {
		return nil, fmt.Errorf("port %q: not a range of numbers from 1 to 65535", spec)
	}
	ports := make([]moss.Port, 0, to-from+1)
	for n := from; n <= to; n++ {
		ports = append(ports, moss.Port{Number: uint16(n), Proto: p})
	}
	return ports, nil
}

func sortPorts(ports []moss.Port) {
	slices.SortFunc(ports, func(a, b moss.Port) int {
		if a.Number != b.Number {
			return int(a.Number) - int(b.Number)
		}
		return strings.Compare(string(a.Proto), string(b.Proto))
	})
}
