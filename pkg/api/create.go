package api

import (
	"encoding/json"
	"maps"
	"path"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

// createBody is the body of a create request: docker's, with the members that
// older clients may send and newer types have lost.
type createBody struct {
	container.Config
	Cmd              words // was a string once
	Entrypoint       words
	MacAddress       string // until 1.51
	HostConfig       *hostBody
	NetworkingConfig *network.NetworkingConfig
}

type hostBody struct {
	container.HostConfig
	KernelMemory    int64 // until 1.41
	KernelMemoryTCP int64 // until 1.51
}

// words is a list of strings that may be sent as one string.
type words []string

// UnmarshalJSON reads a list or a string.
func (w *words) UnmarshalJSON(b []byte) error {
	var list []string
	if err := json.Unmarshal(b, &list); err == nil {
		*w = list
		return nil
	}
	var one string
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*w = words{one}
	return nil
}

// notYet is the error for a field that moss cannot honour: its name and the way out.
func notYet(field, instead string) error {
	return moss.Errorf(moss.NotImplemented, "moss does not do %s yet: %s", field, instead)
}

// invalid is the error for a field with a value that makes no sense.
func invalid(format string, args ...any) error { return moss.Errorf(moss.Invalid, format, args...) }

// first returns the first error of the checks, which are run in order.
func first(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// decodeCreate turns the body of a create request into moss's nouns. Every
// field is carried over or refused; the warnings are for the user.
func (s *Server) decodeCreate(body []byte, v version, name, platform string) (moss.CreateRequest, []string, error) {
	var req moss.CreateRequest
	if len(body) == 0 {
		return req, nil, invalid("invalid JSON: got EOF while reading request body")
	}
	if string(body) == "null" {
		return req, nil, invalid("config cannot be empty in order to create a container")
	}
	var in createBody
	if err := unmarshal(body, &in); err != nil {
		return req, nil, err
	}
	if err := refuseUnknown(body, reflect.TypeFor[createBody](), ""); err != nil {
		return req, nil, err
	}
	if in.HostConfig == nil {
		in.HostConfig = &hostBody{}
	}
	legacy(&in, v)
	d := createDecoder{s: s, in: &in, out: &req, version: v}
	err := first(
		func() error { return d.name(name) },
		func() error { return d.platform(platform) },
		d.config, d.health, d.host, d.namespaces, d.security, d.resources, d.mounts, d.ports, d.networking,
	)
	return req, d.warnings, err
}

// createDecoder decodes one create request, a part a method.
type createDecoder struct {
	s        *Server
	in       *createBody
	out      *moss.CreateRequest
	version  version
	update   bool // of a container that is there
	warnings []string
}

// legacy takes away what the API version that the client speaks does not have,
// as docker's daemons do: the client cannot have meant it.
func legacy(in *createBody, v version) {
	h := in.HostConfig
	if v.before(v1(25)) {
		h.AutoRemove = false // such clients remove the container themselves
	}
	if v.before(v1(40)) {
		h.PidsLimit = nilIf(h.PidsLimit, func(n int64) bool { return n <= 0 })
	}
	if v.before(v1(42)) {
		h.ConsoleSize = [2]uint{}
	}
	if v.before(v1(44)) && in.Healthcheck != nil {
		in.Healthcheck.StartInterval = 0
	}
}

func nilIf[T any](p *T, cond func(T) bool) *T {
	if p != nil && cond(*p) {
		return nil
	}
	return p
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func (d *createDecoder) name(name string) error {
	name = strings.TrimPrefix(name, "/")
	if name != "" && !validName.MatchString(name) {
		return invalid("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	d.out.Name = name
	return nil
}

var validPlatform = regexp.MustCompile(`^[a-z0-9_.-]+(/[a-z0-9_.-]+){0,2}$`)

// platform reads os/arch[/variant], or one of os and arch.
func (d *createDecoder) platform(p string) error {
	out, err := parsePlatform(p)
	d.out.Platform = out
	return err
}

func parsePlatform(p string) (string, error) {
	if p == "" {
		return "", nil
	}
	p = strings.ToLower(p)
	if !validPlatform.MatchString(p) {
		return "", invalid("%q is an invalid platform: want os/arch or os/arch/variant, such as linux/amd64", p)
	}
	parts := strings.Split(p, "/")
	if len(parts) == 1 {
		if p == "linux" {
			return "linux/" + runtime.GOARCH, nil
		}
		parts = []string{"linux", p}
	}
	switch parts[1] {
	case "x86_64", "x86-64":
		parts[1] = "amd64"
	case "aarch64":
		parts[1] = "arm64"
	}
	return strings.Join(parts, "/"), nil
}

func (d *createDecoder) config() error {
	in, out := d.in, &d.out.Config
	err := first(
		func() error { return validEnv(in.Env) },
	)
	if err != nil {
		return err
	}
	if in.ArgsEscaped {
		return invalid("ArgsEscaped is for Windows containers: leave it out")
	}
	if in.WorkingDir != "" && !path.IsAbs(in.WorkingDir) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", in.WorkingDir)
	}
	if in.StopSignal != "" {
		if _, err := parseSignal(in.StopSignal); err != nil {
			return err
		}
	}
	*out = moss.ContainerConfig{
		Hostname: in.Hostname, Domainname: in.Domainname, User: in.User,
		AttachStdin: in.AttachStdin, AttachStdout: in.AttachStdout, AttachStderr: in.AttachStderr,
		TTY: in.Tty, OpenStdin: in.OpenStdin, StdinOnce: in.StdinOnce,
		Env: in.Env, Cmd: in.Cmd, Entrypoint: in.Entrypoint, Image: in.Image, WorkingDir: in.WorkingDir,
		Labels: in.Labels, StopSignal: in.StopSignal, StopTimeout: in.StopTimeout,
		OnBuild: in.OnBuild, Shell: in.Shell, Volumes: slices.Sorted(maps.Keys(in.Config.Volumes)),
	}
	d.out.EntrypointSet = in.Entrypoint != nil
	return nil
}

// refuseIf is notYet under a condition.
func refuseIf(set bool, field, instead string) error {
	if set {
		return notYet(field, instead)
	}
	return nil
}

func validEnv(env []string) error {
	for _, e := range env {
		if e == "" || e[0] == '=' {
			return invalid("invalid environment variable: %s", e)
		}
		if strings.ContainsRune(e, 0) {
			return invalid("invalid environment variable: it has a NUL byte")
		}
	}
	return nil
}
