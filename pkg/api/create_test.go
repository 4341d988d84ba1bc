package api

import (
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// mapped are the fields that moss honours, with a value that it must carry over.
var mapped = map[string]string{
	"Hostname": `"h"`, "Domainname": `"d"`, "User": `"1:2"`, "AttachStdin": `true`, "AttachStdout": `true`, "AttachStderr": `true`,
	"ExposedPorts": `{"80/tcp":{}}`, "Tty": `true`, "OpenStdin": `true`, "StdinOnce": `true`, "Env": `["A=b"]`, "Cmd": `["c"]`,
	"Healthcheck": `{"Test":["NONE"]}`, "Image": `"other"`, "WorkingDir": `"/w"`, "Entrypoint": `["e"]`, "NetworkDisabled": `true`,
	"Volumes": `{"/v":{}}`, "HostConfig.Links": `["/x:/y/z"]`, "HostConfig.VolumesFrom": `["c:ro"]`, "HostConfig.VolumeDriver": `"local"`,
	"OnBuild": `["RUN x"]`, "Labels": `{"l":"v"}`, "StopSignal": `"INT"`, "StopTimeout": `3`, "Shell": `["sh"]`,

	"HostConfig.Binds": `["/a:/b:ro"]`, "HostConfig.ContainerIDFile": `"/f"`, "HostConfig.LogConfig.Type": `"none"`,
	"HostConfig.LogConfig.Config": `{"max-size":"1m"}`, "HostConfig.NetworkMode": `"host"`, "HostConfig.PortBindings": `{"80/tcp":[{"HostPort":"8080"}]}`,
	"HostConfig.RestartPolicy.Name": `"always"`, "HostConfig.AutoRemove": `true`, "HostConfig.ConsoleSize": `[24,80]`,
	"HostConfig.Annotations": `{"a":"b"}`, "HostConfig.CapAdd": `["NET_ADMIN"]`, "HostConfig.CapDrop": `["ALL"]`, "HostConfig.CgroupnsMode": `"host"`,
	"HostConfig.Dns": `["1.2.3.4"]`, "HostConfig.DnsOptions": `["ndots:2"]`, "HostConfig.DnsSearch": `["example.org"]`, "HostConfig.ExtraHosts": `["h:host-gateway"]`,
	"HostConfig.GroupAdd": `["7"]`, "HostConfig.IpcMode": `"host"`, "HostConfig.OomScoreAdj": `5`, "HostConfig.PidMode": `"host"`,
	"HostConfig.Privileged": `true`, "HostConfig.PublishAllPorts": `true`, "HostConfig.ReadonlyRootfs": `true`,
	"HostConfig.SecurityOpt": `["no-new-privileges"]`, "HostConfig.Tmpfs": `{"/t":"size=1m"}`, "HostConfig.UTSMode": `"host"`,
	"HostConfig.ShmSize": `1024`, "HostConfig.Sysctls": `{"net.core.somaxconn":"1"}`, "HostConfig.Runtime": `"crun"`, "HostConfig.Umask": `18`,
	"HostConfig.CpuShares": `512`, "HostConfig.Memory": `67108864`, "HostConfig.NanoCpus": `1000000000`, "HostConfig.BlkioWeight": `500`,
	"HostConfig.CpuPeriod": `100000`, "HostConfig.CpuQuota": `50000`, "HostConfig.CpusetCpus": `"0-1"`, "HostConfig.CpusetMems": `"0"`,
	"HostConfig.MemoryReservation": `67108864`, "HostConfig.MemorySwap": `-1`, "HostConfig.PidsLimit": `10`, "HostConfig.Ulimits": `[{"Name":"nofile","Soft":1,"Hard":2}]`,
	"HostConfig.BlkioWeightDevice": `[{"Path":"/dev/sda","Weight":100}]`, "HostConfig.BlkioDeviceReadBps": `[{"Path":"/dev/sda","Rate":1048576}]`,
	"HostConfig.BlkioDeviceWriteBps": `[{"Path":"/dev/sda","Rate":2}]`, "HostConfig.BlkioDeviceReadIOps": `[{"Path":"/dev/sda","Rate":3}]`, "HostConfig.BlkioDeviceWriteIOps": `[{"Path":"/dev/sda","Rate":4}]`,
	"HostConfig.Init": `true`, "HostConfig.UsernsMode": `"host"`, "HostConfig.CgroupParent": `"mine.slice"`,
	"HostConfig.Devices": `[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/f","CgroupPermissions":"rwm"}]`,
	"HostConfig.Mounts":  `[{"Type":"tmpfs","Target":"/t"}]`, "HostConfig.MaskedPaths": `[]`, "HostConfig.ReadonlyPaths": `["/proc/x"]`,

	"endpoint.IPAMConfig.IPv4Address": `"10.9.8.7"`, "endpoint.IPAMConfig.IPv6Address": `"fd00::7"`, "endpoint.Aliases": `["x"]`, "endpoint.Links": `["x:y"]`, "endpoint.GwPriority": `1`,
	"endpoint.MacAddress": `"02:00:00:00:00:01"`,

	"mount.Type": `"bind"`, "mount.Source": `"/other"`, "mount.Target": `"/other"`, "mount.ReadOnly": `true`,
	"mount.BindOptions.Propagation": `"rshared"`, "mount.BindOptions.NonRecursive": `true`, "mount.BindOptions.CreateMountpoint": `true`,
	"mount.Consistency": `"cached"`,
}

// exempt are the fields that may be set to anything sensible without effect, and why.
var exempt = map[string]string{
	"HostConfig.RestartPolicy.MaximumRetryCount": "docker allows any with no policy; on-failure's is tested below",
	"HostConfig.MemorySwappiness":                "a warning: docker discards it on cgroup v2",
	"HostConfig.OomKillDisable":                  "as MemorySwappiness",
	"endpoint.NetworkID":                         "told by the daemon; clients that recreate a container send it back",
	"endpoint.EndpointID":                        "as NetworkID",
	"endpoint.Gateway":                           "as NetworkID",
	"endpoint.IPAddress":                         "as NetworkID; the wish is IPAMConfig",
	"endpoint.IPPrefixLen":                       "as NetworkID",
	"endpoint.IPv6Gateway":                       "as NetworkID",
	"endpoint.GlobalIPv6Address":                 "as NetworkID",
	"endpoint.GlobalIPv6PrefixLen":               "as NetworkID",
	"endpoint.DNSNames":                          "as NetworkID; the wish is Aliases",
}

// special are values for fields where a generic one would not decode.
var special = map[string]string{
	"HostConfig.MemorySwappiness": `60`,
	"mount.TmpfsOptions":          `{"SizeBytes":1}`, "HostConfig.RestartPolicy.MaximumRetryCount": `0`,
}

// sample is a JSON value that is not the zero one.
func sample(t reflect.Type) string {
	if t == reflect.TypeFor[netip.Addr]() {
		return `"10.9.8.7"`
	}
	switch t.Kind() {
	case reflect.Pointer:
		return sample(t.Elem())
	case reflect.String:
		return `"x"`
	case reflect.Bool:
		return `true`
	case reflect.Slice, reflect.Array:
		return `[` + sample(t.Elem()) + `]`
	case reflect.Map:
		return `{"k":` + sample(t.Elem()) + `}`
	case reflect.Struct:
		var members []string
		for _, f := range reflect.VisibleFields(t) {
			if n := jsonName(f); n != "" && len(f.Index) == 1 {
				members = append(members, `"`+n+`":`+sample(f.Type))
			}
		}
		return `{` + strings.Join(members, ",") + `}`
	}
	return `1`
}

// walk calls fn with the path and type of every field, structs opened up.
func walk(t reflect.Type, prefix string, fn func(path string, t reflect.Type)) {
	for _, f := range reflect.VisibleFields(t) {
		name := jsonName(f)
		if name == "" {
			continue
		}
		ft := f.Type
		for ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		_, whole := mapped[prefix+name]
		if ft.Kind() == reflect.Struct && !implementsUnmarshal(ft) && !whole && ft.NumField() > 0 && prefix+name != "Healthcheck" {
			walk(ft, prefix+name+".", fn)
			continue
		}
		fn(prefix+name, f.Type)
	}
}

// nest makes a.b.c of a path and a value.
func nest(path, value string) string {
	head, rest, more := strings.Cut(path, ".")
	if more {
		value = nest(rest, value)
	}
	return `{"` + head + `":` + value + `}`
}

// body puts one field's value into an otherwise plain request.
func body(path, value string) string {
	if rest, ok := strings.CutPrefix(path, "mount."); ok {
		member := nest(rest, value)
		base := `{"Type":"bind","Source":"/s","Target":"/t",`
		return nest("HostConfig.Mounts", "["+base+member[1:]+"]")
	}
	if rest, ok := strings.CutPrefix(path, "endpoint."); ok {
		return nest("NetworkingConfig.EndpointsConfig.default", nest(rest, value))
	}
	return nest(path, value)
}

// TestEveryField: each field of a create request is carried over or refused.
func TestEveryField(t *testing.T) {
	s, _ := newFake()
	check := func(path string, typ reflect.Type) {
		value, isMapped := mapped[path]
		if !isMapped {
			value = special[path]
		}
		if value == "" {
			value = sample(typ)
		}
		in := body(path, value)
		got, _, err := s.decodeCreate([]byte(in), newest, "", "")
		zero := body(path, "null")
		if strings.HasPrefix(path, "mount.") {
			zero = nest("HostConfig.Mounts", `[{"Type":"bind","Source":"/s","Target":"/t"}]`)
		}
		base, _, zerr := s.decodeCreate([]byte(zero), newest, "", "")
		if zerr != nil {
			t.Errorf("%s unset is refused: %v", path, zerr)
		}
		_, isExempt := exempt[path]
		switch {
		case isMapped && path == "mount.Type":
			// is in the base already
		case isMapped && err != nil:
			t.Errorf("%s = %s is refused: %v", path, value, err)
		case isMapped && cmp.Equal(got, base, cmpAddr):
			t.Errorf("%s = %s is ignored", path, value)
		case isExempt && err != nil:
			t.Errorf("%s = %s is refused though it is exempt: %v", path, value, err)
		case !isMapped && !isExempt && err == nil:
			t.Errorf("%s = %s is neither carried over, refused nor exempt", path, value)
		case err != nil && moss.ClassOf(err) != moss.Invalid && moss.ClassOf(err) != moss.NotImplemented:
			t.Errorf("%s: %v is %v", path, err, moss.ClassOf(err))
		case err != nil && strings.Contains(err.Error(), "invalid JSON"):
			t.Errorf("%s = %s does not reach the check: %v", path, value, err)
		}
		delete(unseen, path)
	}
	for path := range mapped {
		unseen[path] = true
	}
	for path := range exempt {
		unseen[path] = true
	}
	walk(reflect.TypeFor[container.Config](), "", check)
	walk(reflect.TypeFor[container.HostConfig](), "HostConfig.", check)
	walk(reflect.TypeFor[mount.Mount](), "mount.", check)
	walk(reflect.TypeFor[network.EndpointSettings](), "endpoint.", check)
	for path := range unseen {
		t.Errorf("%s is no field any more", path)
	}
}

var unseen = map[string]bool{}

// linkedTo is what the engine makes of the links of a container named y.
func linkedTo(links []moss.Link) (out []string) {
	for _, l := range links {
		out = append(out, "/"+l.Container+":/y/"+l.Alias)
	}
	return out
}

// TestEncodesWhatItDecodes: what a request asks for is shown by inspect.
func TestEncodesWhatItDecodes(t *testing.T) {
	s, _ := newFake()
	for path, value := range mapped {
		if !strings.HasPrefix(path, "HostConfig.") || path == "HostConfig.Mounts" {
			continue
		}
		req, _, err := s.decodeCreate([]byte(nest(path, value)), newest, "", "")
		if err != nil {
			t.Fatal(err)
		}
		h := encodeHost(&moss.Container{Config: req.Config, Host: req.Host, LinkedTo: linkedTo(req.Host.Links)})
		b, err := json.Marshal(map[string]any{"HostConfig": h})
		if err != nil {
			t.Fatal(err)
		}
		var got any
		_ = json.Unmarshal(b, &got)
		for part := range strings.SplitSeq(path, ".") {
			m, _ := got.(map[string]any)
			got = m[part]
		}
		var want any
		_ = json.Unmarshal([]byte(value), &want)
		if path == "HostConfig.PortBindings" {
			want.(map[string]any)["80/tcp"].([]any)[0].(map[string]any)["HostIp"] = ""
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: asked for %v, shown %v", path, want, got)
		}
	}
}

// cli28 is what docker run of version 28 sends when it is asked for nothing.
const cli28 = `{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"Tty":false,
"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":["echo","hi"],"Image":"busybox","Volumes":{},"WorkingDir":"","Entrypoint":null,
"OnBuild":null,"Labels":{},"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default",
"PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,
"ConsoleSize":[24,80],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,
"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,
"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,
"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],
"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"",
"Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,
"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},
"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"","DriverOpts":null,
"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"",
"GlobalIPv6PrefixLen":0,"DNSNames":null}}}}`

func TestDecodeDockerCLI(t *testing.T) {
	s, _ := newFake()
	got, warnings, err := s.decodeCreate([]byte(cli28), v1(50), "/web", "linux/amd64")
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := moss.CreateRequest{
		Name: "web", Platform: "linux/amd64",
		Config: moss.ContainerConfig{AttachStdout: true, AttachStderr: true, Cmd: []string{"echo", "hi"}, Image: "busybox", Labels: map[string]string{}},
		Host: moss.HostConfig{
			NetworkMode: moss.NetworkBridge, RestartPolicy: moss.RestartPolicy{Mode: moss.RestartNo}, LogConfig: moss.LogConfig{Options: map[string]string{}},
			ConsoleSize: moss.TermSize{Rows: 24, Cols: 80},
			DNS:         []netip.Addr{}, DNSOptions: []string{},
		},
	}
	if d := cmp.Diff(want, got, cmpAddr); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestDecodeValues(t *testing.T) {
	s, _ := newFake()
	for _, tc := range []struct{ in, wrong string }{ // wrong is a part of the error; "" accepts
		{`{"HostConfig":{"Memory":1}}`, "Minimum memory limit allowed is 6MB"},
		{`{"HostConfig":{"Memory":8388608,"MemorySwap":7340032}}`, "Minimum memoryswap limit should be larger"},
		{`{"HostConfig":{"MemorySwap":8388608}}`, "You should always set the Memory limit"},
		{`{"HostConfig":{"NanoCpus":9000000000}}`, "Range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"},
		{`{"HostConfig":{"NanoCpus":1000000000,"CpuPeriod":1000}}`, "Conflicting options"},
		{`{"HostConfig":{"RestartPolicy":{"Name":"sometimes"}}}`, "unknown policy"},
		{`{"HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":2}}}`, "maximum retry count can only be used with 'on-failure'"},
		{`{"HostConfig":{"RestartPolicy":{"Name":"always"},"AutoRemove":true}}`, "can't create 'AutoRemove' container with restart policy"},
		{`{"HostConfig":{"CapAdd":["FLY"]}}`, `invalid capability: "FLY"`},
		{`{"HostConfig":{"SecurityOpt":["no-new-privileges:true","seccomp=unconfined","apparmor=unconfined","label=disable","seccomp={}"]}}`, ""},
		{`{"HostConfig":{"SecurityOpt":["seccomp=profile.json"]}}`, "opening seccomp profile"},
		{`{"HostConfig":{"SecurityOpt":["apparmor=mine"]}}`, "use apparmor=unconfined"},
		{`{"HostConfig":{"SecurityOpt":["label=type:x"]}}`, "label=disable"},
		{`{"HostConfig":{"SecurityOpt":["magic"]}}`, `invalid --security-opt: "magic"`},
		{`{"HostConfig":{"NetworkMode":"container:x","IpcMode":"container:x","PidMode":"container:x"}}`, ""},
		{`{"HostConfig":{"NetworkMode":"container:"}}`, "invalid container format container:<name|id>"},
		{`{"HostConfig":{"IpcMode":"container:"}}`, "invalid IPC mode"},
		{`{"HostConfig":{"PidMode":"container:"}}`, "invalid PID mode"},
		{`{"Hostname":"h","HostConfig":{"NetworkMode":"container:x"}}`, "conflicting options: hostname and the network mode"},
		{`{"Hostname":"h","HostConfig":{"UTSMode":"host"}}`, "conflicting options: hostname and the UTS mode"},
		{`{"Domainname":"d","HostConfig":{"UTSMode":"host"}}`, "conflicting options: domainname and the UTS mode"},
		{`{"HostConfig":{"UTSMode":"host"}}`, ""},
		{`{"Hostname":"h","HostConfig":{"NetworkMode":"host"}}`, ""},
		{`{"MacAddress":"02:42:ac:11:00:05","HostConfig":{"NetworkMode":"host"}}`, "conflicting options: mac-address and the network mode"},
		{`{"MacAddress":"02:42:ac:11:00:05","HostConfig":{"NetworkMode":"none"}}`, ""},
		{`{"HostConfig":{"NetworkMode":"host"},"NetworkingConfig":{"EndpointsConfig":{"host":{"MacAddress":"02:42:ac:11:00:05"}}}}`, "conflicting options: mac-address and the network mode"},
		{`{"HostConfig":{"NetworkMode":"container:x"},"NetworkingConfig":{"EndpointsConfig":{"container:x":{"MacAddress":"02:42:ac:11:00:05"}}}}`, "conflicting options: mac-address and the network mode"},
		{`{"HostConfig":{"NetworkMode":"host"},"NetworkingConfig":{"EndpointsConfig":{"host":{"IPAMConfig":{"IPv4Address":"10.0.0.1"}}}}}`, "user specified IP address is supported on user defined networks only"},
		{`{"HostConfig":{"NetworkMode":"container:x"},"NetworkingConfig":{"EndpointsConfig":{"container:x":{"IPAMConfig":{"IPv6Address":"fd00::1"}}}}}`, "user specified IP address is supported on user defined networks only"},
		{`{"HostConfig":{"NetworkMode":"none"},"NetworkingConfig":{"EndpointsConfig":{"none":{"Aliases":["a"]}}}}`, "network-scoped aliases are only supported for user-defined networks"},
		{`{"HostConfig":{"NetworkMode":"host"},"NetworkingConfig":{"EndpointsConfig":{"host":{}}}}`, ""},
		{`{"HostConfig":{"NetworkMode":"container:x","Dns":["1.2.3.4"]}}`, "conflicting options: dns and the network mode"},
		{`{"HostConfig":{"NetworkMode":"container:x","ExtraHosts":["a:1.2.3.4"]}}`, "conflicting options: custom host-to-IP mapping and the network mode"},
		{`{"HostConfig":{"NetworkMode":"container:x","PublishAllPorts":true}}`, "conflicting options: port publishing and the container type network mode"},
		{`{"ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"container:x"}}`, "conflicting options: port exposing and the container type network mode"},
		{`{"HostConfig":{"Devices":[{"PathOnHost":"dev/null"}]}}`, "not a device node"},
		{`{"HostConfig":{"Devices":[{"PathOnHost":"/dev/null","CgroupPermissions":"x"}]}}`, "invalid device mode: x"},
		{`{"HostConfig":{"Devices":[{"PathOnHost":"/dev/null","CgroupPermissions":"r"}]}}`, "no device controller"},
		{`{"HostConfig":{"DeviceRequests":[{"Capabilities":[["gpu"]]}]}}`, "could not select device driver \"\" with capabilities: [[gpu]]"},
		{`{"HostConfig":{"CgroupParent":"/mine"}}`, "should be a valid slice named as"},
		{`{"HostConfig":{"NetworkMode":"mine"}}`, ""},
		{`{"HostConfig":{"NetworkMode":"mine"},"NetworkingConfig":{"EndpointsConfig":{"other":{}}}}`, ""},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{},"other":{}}}}`, ""},
		{`{"NetworkingConfig":{"EndpointsConfig":{"mine":{"Links":["db"]}}}}`, ""},
		{`{"NetworkingConfig":{"EndpointsConfig":{"mine":{"Links":["db:a:b"]}}}}`, "bad format for links: db:a:b"},
		{`{"HostConfig":{"Links":["db:"]}}`, "bad format for links: db:"},
		{`{"HostConfig":{"Links":["db","web:www"]}}`, ""},
		{`{"HostConfig":{"Links":["db"],"NetworkMode":"container:x"}}`, "container type network can't be used with links"},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{"DriverOpts":{"a":"b"}}}}}`, "the driver option a"},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{"DriverOpts":{"com.docker.network.endpoint.ifname":"web0"}}}}}`, ""},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{"DriverOpts":{"com.docker.network.endpoint.ifname":"lo"}}}}}`, "no name of a link"},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{"DriverOpts":{"com.docker.network.endpoint.ifname":"a/b"}}}}}`, "no name of a link"},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":{"LinkLocalIPs":["169.254.1.2","fe80::2"]}}}}}`, ""},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":{"LinkLocalIPs":["10.0.0.1"]}}}}}`, "invalid link-local IP address"},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.log_martians=1"}}}}}`, ""},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"kernel.x=1"}}}}}`, "invalid sysctl"},
		{`{"HostConfig":{"UsernsMode":"what"}}`, "invalid userns mode"},
		{`{"HostConfig":{"ExtraHosts":["x"]}}`, "bad format for add-host"},
		{`{"HostConfig":{"ExtraHosts":["x:y"]}}`, "invalid IP address in add-host"},
		{`{"HostConfig":{"ExtraHosts":["x y:1.2.3.4"]}}`, "bad format for add-host"},
		{`{"HostConfig":{"ExtraHosts":["x:::1","x=1.2.3.4","x=host-gateway","x:[::1]"]}}`, ""},
		{`{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8000-8009"}]}}}`, ""},
		{`{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"9-1"}]}}}`, "invalid port specification"},
		{`{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"0-9"}]}}}`, "invalid port specification"},
		{`{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"1-70000"}]}}}`, "invalid port specification"},
		{`{"HostConfig":{"PortBindings":{"80/sctp":[{}]}}}`, "80/sctp cannot be published"},
		{`{"HostConfig":{"PortBindings":{"80/foo":[{}]}}}`, "invalid proto: foo"},
		{`{"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"nowhere"}]}}}`, "invalid JSON"},
		{`{"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":3,"Hard":2}]}}`, "ulimit soft limit"},
		{`{"HostConfig":{"Tmpfs":{"/t":"rw,noexec,size=64m,mode=1770"}}}`, ""},
		{`{"HostConfig":{"Tmpfs":{"/t":"frob"}}}`, `invalid tmpfs option "frob"`},
		{`{"HostConfig":{"Tmpfs":{"/t":"size=50%,nr_inodes=1k,uid=5"}}}`, ""},
		{`{"HostConfig":{"Tmpfs":{"/t":"size=abc"}}}`, `invalid tmpfs option "size=abc"`},
		{`{"HostConfig":{"Tmpfs":{"/t":"mode=999"}}}`, `invalid tmpfs option "mode=999"`},
		{`{"HostConfig":{"Tmpfs":{"/t":"uid=root"}}}`, `invalid tmpfs option "uid=root"`},
		{`{"Hostname":"` + strings.Repeat("h", 64) + `"}`, ""},
		{`{"Hostname":"` + strings.Repeat("h", 65) + `"}`, "invalid hostname: it is 65 bytes long"},
		{`{"Domainname":"` + strings.Repeat("h", 65) + `"}`, "invalid domainname: it is 65 bytes long"},
		{`{"HostConfig":{"Tmpfs":{"/":""}}}`, "destination can't be '/'"},
		{`{"HostConfig":{"Binds":["/a:/t"],"Tmpfs":{"/t/":""}}}`, "Duplicate mount point: /t"},
		{`{"HostConfig":{"Mounts":[{"Type":"volume","Target":"/t"}]}}`, ""},
		{`{"HostConfig":{"Mounts":[{"Type":"volume","Target":"/t","VolumeOptions":{"Subpath":"a"}}]}}`, "anonymous"},
		{`{"HostConfig":{"Mounts":[{"Type":"volume","Source":"v1","Target":"/t","VolumeOptions":{"Subpath":"a/../../b"}}]}}`, "invalid subpath"},
		{`{"HostConfig":{"Mounts":[{"Type":"volume","Source":"v1","Target":"/t","VolumeOptions":{"Subpath":"/b"}}]}}`, "invalid subpath"},
		{`{"HostConfig":{"Mounts":[{"Type":"volume","Source":"v1","Target":"/t","BindOptions":{}}]}}`, "field BindOptions must not be specified"},
		{`{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/s","Target":"/t","ReadOnly":true,"BindOptions":{"ReadOnlyNonRecursive":true}}]}}`, ""},
		{`{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/s","Target":"/t","ReadOnly":true,"BindOptions":{"ReadOnlyForceRecursive":true}}]}}`, ""},
		{`{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/s","Target":"/t","BindOptions":{"ReadOnlyForceRecursive":true}}]}}`, "require ReadOnly"},
		{`{"HostConfig":{"VolumesFrom":["c:what"]}}`, "invalid mode: what"},
		{`{"HostConfig":{"Mounts":[{"Type":"bind","Source":"rel","Target":"/t"}]}}`, "mount path must be absolute"},
		{`{"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/t","BindOptions":{}}]}}`, "field BindOptions must not be specified"},
		{`{"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":5,"Mode":511,"Options":[["exec"]]}}]}}`, ""},
		{`{"Env":["=x"]}`, "invalid environment variable"},
		{`{"WorkingDir":"rel"}`, "needs to be an absolute path"},
		{`{"Volumes":{"/v":{}}}`, ""},
		{`{"MacAddress":"02:00:00:00:00:01"}`, ""},
		{`{"MacAddress":"nonsense"}`, "invalid MAC address"},
		{`{"HostConfig":{"KernelMemory":5}}`, "kernel memory"},
		{`{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/s","Target":"/t","Colour":"red"}]}}`, "HostConfig.Mounts[].Colour: no such field"},
		{`{"Healthcheck":{"Test":["CMD","true"],"Interval":1000000,"Timeout":1000000,"StartPeriod":1000000,"StartInterval":1000000,"Retries":1}}`, ""},
		{`{"Healthcheck":{"Interval":999999}}`, "Interval in Healthcheck cannot be less than 1ms"},
		{`{"Healthcheck":{"Timeout":-1}}`, "Timeout in Healthcheck cannot be less than 1ms"},
		{`{"Healthcheck":{"StartPeriod":1}}`, "StartPeriod in Healthcheck cannot be less than 1ms"},
		{`{"Healthcheck":{"StartInterval":1}}`, "StartInterval in Healthcheck cannot be less than 1ms"},
		{`{"Healthcheck":{"Retries":-1}}`, "Retries in Healthcheck cannot be negative"},
		{`{"Healthcheck":{"Test":["CMD"]}}`, "no command after CMD"},
		{`{"Healthcheck":{"Test":["CMD-SHELL",""]}}`, "no command after CMD-SHELL"},
		{`{"Healthcheck":{"Test":["NONE","x"]}}`, "no arguments after NONE"},
		{`{"Healthcheck":{"Test":["TCP","80"]}}`, "want CMD, CMD-SHELL or NONE"},
		{`{"Cmd":"one word","entrypoint":"two"}`, ""},
		{`{"Cmd":5}`, "invalid JSON"},
		{`[]`, "invalid JSON"},
	} {
		_, _, err := s.decodeCreate([]byte(tc.in), newest, "", "")
		if (err == nil) != (tc.wrong == "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
			t.Errorf("%s: %v, want %q", tc.in, err, tc.wrong)
		}
	}
}

func TestEntrypointSet(t *testing.T) {
	s, _ := newFake()
	for in, want := range map[string]bool{`{}`: false, `{"Entrypoint":null}`: false, `{"Entrypoint":[]}`: true, `{"Entrypoint":[""]}`: true, `{"Entrypoint":"x"}`: true} {
		if req, _, err := s.decodeCreate([]byte(in), newest, "", ""); err != nil || req.EntrypointSet != want {
			t.Errorf("%s: %v, %v", in, req.EntrypointSet, err)
		}
	}
}

func TestBinds(t *testing.T) {
	s, _ := newFake()
	for in, want := range map[string]string{
		"/a:/b": "/a /b false rprivate", "/a/../c:/b/:ro,rshared": "/c /b true rshared", "/a:/b:z,cached": "/a /b false rprivate", "/a:/b:": "/a /b false rprivate",
		"/ro:/rw:rw": "/ro /rw false rprivate",
		"/a":         " /a false ", "vol:/b/:nocopy,ro": " /b true ", "vol:/b:rshared": "", "vol:b": "",
		"a:/b": "", "/a:b": "", "/a:/": "", ":/b": "", "/a:/b:ro,rw": "", "/a:/b:what": "", "/a:/b:ro:x": "", "/a:ro": "", "/a:/b:nocopy": "", "": "",
	} {
		m, err := s.parseBind(in)
		got := ""
		if err == nil {
			got = strings.Join([]string{m.Source, m.Target, map[bool]string{true: "true", false: "false"}[m.ReadOnly], m.Propagation}, " ")
		}
		if got != want {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
	if _, err := s.parseBind("/a:/b:idmap"); moss.ClassOf(err) != moss.NotImplemented {
		t.Errorf("a map of ids: %v", err)
	}
}

func TestTmpfsOptions(t *testing.T) {
	s, _ := newFake()
	req, _, err := s.decodeCreate([]byte(`{"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/t/","ReadOnly":true,"TmpfsOptions":{"SizeBytes":5,"Mode":511,"Options":[["exec"]]}}]}}`), newest, "", "")
	want := []moss.MountPoint{{Type: moss.MountTmpfs, Target: "/t", ReadOnly: true, TmpfsOptions: "ro,size=5,mode=777,exec", Spec: true}}
	if d := cmp.Diff(want, req.Host.Mounts); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

// TestMountsShownAsAsked: inspect has Mounts as they were sent, and puts no
// tmpfs of theirs among those of --tmpfs.
func TestMountsShownAsAsked(t *testing.T) {
	s, _ := newFake()
	for _, want := range []string{
		`{"Type":"tmpfs","Target":"/t"}`,
		`{"Type":"tmpfs","Target":"/t","ReadOnly":true,"TmpfsOptions":{"SizeBytes":5,"Mode":511,"Options":[["exec"]]}}`,
		`{"Type":"bind","Source":"/s","Target":"/t","Consistency":"cached"}`,
		`{"Type":"bind","Source":"/s","Target":"/t","ReadOnly":true,"BindOptions":{"ReadOnlyForceRecursive":true}}`,
		`{"Type":"bind","Source":"/s","Target":"/t","BindOptions":{"NonRecursive":true}}`,
		`{"Type":"bind","Source":"/s","Target":"/t","BindOptions":{"Propagation":"rslave"}}`,
	} {
		req, _, err := s.decodeCreate([]byte(`{"HostConfig":{"Tmpfs":{"/other":"ro"},"Mounts":[`+want+`]}}`), newest, "", "")
		if err != nil {
			t.Fatal(err)
		}
		h := encodeHost(&moss.Container{Config: req.Config, Host: req.Host})
		got, err := json.Marshal(h.Mounts)
		if err != nil || string(got) != "["+want+"]" {
			t.Errorf("asked for %s, shown %s, %v", want, got, err)
		}
		if d := cmp.Diff(map[string]string{"/other": "ro"}, h.Tmpfs); d != "" {
			t.Errorf("%s: %s", want, d)
		}
	}
}

func TestNetworkDisabledShown(t *testing.T) {
	s, _ := newFake()
	req, _, err := s.decodeCreate([]byte(`{"NetworkDisabled":true}`), newest, "", "")
	if err != nil || !encodeConfig(req.Config).NetworkDisabled || req.Host.NetworkMode != moss.NetworkNone {
		t.Errorf("%+v, %v", req, err)
	}
}

func TestHostNetworkDropsPorts(t *testing.T) {
	s, _ := newFake()
	req, warnings, err := s.decodeCreate([]byte(`{"HostConfig":{"NetworkMode":"host","PortBindings":{"80/tcp":[{}]}}}`), newest, "", "")
	if err != nil || len(req.Host.PortBindings) > 0 || len(warnings) != 1 {
		t.Errorf("%+v, %q, %v", req.Host.PortBindings, warnings, err)
	}
}

func FuzzCreate(f *testing.F) {
	f.Add([]byte(cli28), "web", "linux")
	f.Add([]byte(`{"HostConfig":{"Binds":["/a:/b:ro"],"Tmpfs":{"/t":"size=1"},"PortBindings":{"80/tcp":null}}}`), "", "a/b/c")
	s, _ := newFake()
	f.Fuzz(func(t *testing.T, body []byte, name, platform string) {
		req, _, err := s.decodeCreate(body, newest, name, platform)
		if err != nil {
			if c := moss.ClassOf(err); c != moss.Invalid && c != moss.NotImplemented {
				t.Errorf("%v is %v", err, c)
			}
			return
		}
		c := moss.Container{Config: req.Config, Host: req.Host, Mounts: req.Host.Mounts}
		if _, err := json.Marshal(encodeInspect(&c, v1(50), "overlay")); err != nil {
			t.Errorf("cannot encode what was decoded: %v", err)
		}
	})
}

func FuzzBind(f *testing.F) {
	f.Add("/a:/b:ro,z")
	f.Add("name:/b:nocopy")
	s, _ := newFake()
	f.Fuzz(func(t *testing.T, in string) {
		m, err := s.parseBind(in)
		if err != nil {
			return
		}
		volume := m.Type == moss.MountVolume && m.Source == "" // its name is looked at by who has the volumes
		bind := m.Type == moss.MountBind && strings.HasPrefix(m.Source, "/") && m.Name == ""
		if volume == bind || len(m.Target) < 2 || m.Target[0] != '/' {
			t.Errorf("%q gives %+v", in, m)
		}
	})
}

func FuzzFilters(f *testing.F) {
	f.Add(`{"label":{"a=b":true},"status":["running"]}`)
	f.Fuzz(func(t *testing.T, in string) {
		args, err := parseFilters(in, containerFilters...)
		if err != nil && moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%v is %v", err, moss.ClassOf(err))
		}
		_ = args.pairs("label", map[string]string{"a": "b"})
		_, _ = noneFilters(args)
	})
}

func FuzzDetachKeys(f *testing.F) {
	f.Add("ctrl-a,z")
	f.Fuzz(func(t *testing.T, in string) {
		if keys, err := parseDetachKeys(in); err == nil && len(keys) == 0 {
			t.Errorf("%q gives no keys", in)
		}
	})
}

// TestElsewhere: end points without a mode take the default network's place.
func TestElsewhere(t *testing.T) {
	for _, tc := range []struct {
		in       string
		noBridge bool
		mode     moss.NetworkMode
		ends     []string
	}{
		{`{"NetworkingConfig":{"EndpointsConfig":{"mine":null}}}`, false, "mine", nil},
		{`{"NetworkingConfig":{"EndpointsConfig":{"mine":{}}}}`, true, "mine", nil},
		{`{"HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"two":{},"one":{"Aliases":["a"]}}}}`, false, "one", []string{"one", "two"}},
		{`{"HostConfig":{"NetworkMode":"bridge"},"NetworkingConfig":{"EndpointsConfig":{"mine":{}}}}`, false, "mine", nil},
		{`{"NetworkingConfig":{"EndpointsConfig":{"bridge":{},"mine":{}}}}`, false, "bridge", []string{"mine"}},
		{`{"NetworkingConfig":{"EndpointsConfig":{"default":{},"mine":{}}}}`, false, "bridge", []string{"mine"}},
		{`{"NetworkingConfig":{"EndpointsConfig":{}}}`, false, "bridge", nil},
		{`{"NetworkDisabled":true,"NetworkingConfig":{"EndpointsConfig":{"none":{}}}}`, false, "none", nil},
	} {
		s := &Server{o: Options{NoBridge: tc.noBridge}}
		req, _, err := s.decodeCreate([]byte(tc.in), newest, "", "")
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		if ends := slices.Sorted(maps.Keys(req.Endpoints)); req.Host.NetworkMode != tc.mode || !slices.Equal(ends, tc.ends) {
			t.Errorf("%s: mode %s, end points %q", tc.in, req.Host.NetworkMode, ends)
		}
	}
}
