package api

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// capabilities are those of capabilities(7), without CAP_.
var capabilities = strings.Fields(`AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN
	DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE
	MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN
	SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`)

func validCaps(caps []string) error {
	for _, c := range caps {
		name := strings.TrimPrefix(strings.ToUpper(c), "CAP_")
		if name != "ALL" && !slices.Contains(capabilities, name) {
			return invalid("invalid capability: %q", c)
		}
	}
	return nil
}

func (d *createDecoder) security() error {
	in, out := &d.in.HostConfig.HostConfig, &d.out.Host
	if err := validCaps(slices.Concat(in.CapAdd, in.CapDrop)); err != nil {
		return err
	}
	out.CapAdd, out.CapDrop, out.Privileged = in.CapAdd, in.CapDrop, in.Privileged
	out.MaskedPaths, out.ReadonlyPaths = in.MaskedPaths, in.ReadonlyPaths
	out.SecurityOpt = in.SecurityOpt
	for _, opt := range in.SecurityOpt {
		if err := d.securityOpt(opt); err != nil {
			return err
		}
	}
	return nil
}

// securityOpt reads one option: key, key=value, or key:value of old clients.
func (d *createDecoder) securityOpt(opt string) error {
	out := &d.out.Host
	key, value, ok := strings.Cut(opt, "=")
	if !ok {
		key, value, ok = strings.Cut(opt, ":")
	}
	switch key {
	case "no-new-privileges":
		on := true
		if ok {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				return invalid("invalid --security-opt: %q", opt)
			}
		}
		out.NoNewPrivileges = on
		return nil
	case "seccomp":
		return d.seccomp(value)
	case "apparmor":
		return d.appArmor(opt, value)
	case "label":
		return d.label(opt, value)
	case "systempaths":
		if value != "unconfined" {
			return invalid("invalid --security-opt: %q", opt)
		}
		out.MaskedPaths, out.ReadonlyPaths = []string{}, []string{}
		return nil
	case "writable-cgroups":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return invalid("invalid --security-opt: %q", opt)
		}
		return refuseIf(on, "writable cgroups (--security-opt "+opt+")", "leave it out")
	}
	return invalid("invalid --security-opt: %q", opt)
}

func (d *createDecoder) seccomp(value string) error {
	switch {
	case value == "builtin":
		d.out.Host.Seccomp = ""
	case value == "unconfined":
		d.out.Host.Seccomp = value
	case json.Valid([]byte(value)) && strings.HasPrefix(strings.TrimSpace(value), "{"):
		d.out.Host.Seccomp = value
	default:
		return invalid("opening seccomp profile (%.40s) failed: want unconfined, builtin or the JSON text of a profile", value)
	}
	return nil
}

// resources carries over the limits.
func (d *createDecoder) resources() error {
	in, out := &d.in.HostConfig.Resources, &d.out.Host.Resources
	err := first(
		d.deviceLimits,
		func() error {
			return refuseIf(in.CPURealtimePeriod != 0 || in.CPURealtimeRuntime != 0, "real-time cpu limits", "cgroup v2 has none: use --cpus")
		},
		d.withoutController,
		func() error {
			return refuseIf(d.in.HostConfig.KernelMemory != 0 || d.in.HostConfig.KernelMemoryTCP != 0, "kernel memory limits", "cgroup v2 has none: use --memory")
		},
		d.devices, d.cgroupParent, d.memory, d.cpu, d.ulimits,
	)
	if err != nil {
		return err
	}
	if in.CPUCount != 0 || in.CPUPercent != 0 || in.IOMaximumIOps != 0 || in.IOMaximumBandwidth != 0 {
		return invalid("CpuCount, CpuPercent, IOMaximumIOps and IOMaximumBandwidth are for Windows containers: leave them out")
	}
	if in.BlkioWeight != 0 && (in.BlkioWeight < 10 || in.BlkioWeight > 1000) {
		return invalid("Range of blkio weight is from 10 to 1000")
	}
	out.BlkioWeight = in.BlkioWeight
	if in.PidsLimit != nil {
		out.PidsLimit = *in.PidsLimit
	}
	return nil
}

// withoutController warns, as docker does, of what only cgroup v1 could do.
func (d *createDecoder) withoutController() error {
	in := &d.in.HostConfig.Resources
	if s := in.MemorySwappiness; s != nil && *s != -1 {
		if *s < 0 || *s > 100 {
			return invalid("Invalid value: %d, valid memory swappiness range is 0-100", *s)
		}
		d.warnings = append(d.warnings, "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
	}
	if in.OomKillDisable != nil && *in.OomKillDisable {
		d.warnings = append(d.warnings, "Your kernel does not support OomKillDisable. OomKillDisable discarded.")
	}
	return nil
}

// minMemory is docker's smallest memory limit, in bytes.
const minMemory = 6 << 20

func (d *createDecoder) memory() error {
	in, out := &d.in.HostConfig.Resources, &d.out.Host.Resources
	switch {
	case in.Memory < 0 || in.MemoryReservation < 0 || in.MemorySwap < -1:
		return invalid("invalid memory limit: it is negative")
	case in.Memory != 0 && in.Memory < minMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	case in.Memory > 0 && in.MemorySwap > 0 && in.MemorySwap < in.Memory:
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case in.Memory == 0 && in.MemorySwap > 0 && !d.update:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case in.MemoryReservation > 0 && in.MemoryReservation < minMemory:
		return invalid("Minimum memory reservation allowed is 6MB")
	case in.Memory > 0 && in.MemoryReservation > in.Memory:
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	out.Memory, out.MemoryReservation, out.MemorySwap = in.Memory, in.MemoryReservation, in.MemorySwap
	return nil
}

func (d *createDecoder) cpu() error {
	in, out := &d.in.HostConfig.Resources, &d.out.Host.Resources
	switch {
	case in.NanoCPUs != 0 && in.CPUPeriod != 0:
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
	case in.NanoCPUs != 0 && in.CPUQuota != 0:
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set.")
	case in.NanoCPUs < 0 || in.NanoCPUs > int64(d.s.ncpu)*1e9:
		return invalid("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", d.s.ncpu, d.s.ncpu)
	case in.CPUShares < 0:
		return invalid("invalid CPU shares (%d): it is negative", in.CPUShares)
	case in.CPUPeriod != 0 && (in.CPUPeriod < 1000 || in.CPUPeriod > 1000000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case in.CPUQuota > 0 && in.CPUQuota < 1000:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	for _, set := range []string{in.CpusetCpus, in.CpusetMems} {
		if strings.Trim(set, "0123456789,- ") != "" {
			return invalid("invalid cpuset %q: want numbers and ranges, such as 0-2,4", set)
		}
	}
	out.NanoCPUs, out.CPUPeriod, out.CPUQuota, out.CPUShares = in.NanoCPUs, in.CPUPeriod, in.CPUQuota, in.CPUShares
	out.CpusetCpus, out.CpusetMems = in.CpusetCpus, in.CpusetMems
	return nil
}

// ulimitNames are those of setrlimit(2), in lower case without RLIMIT_.
var ulimitNames = strings.Fields(`as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack`)

func (d *createDecoder) ulimits() error {
	for _, u := range d.in.HostConfig.Ulimits {
		if u == nil {
			continue
		}
		if !slices.Contains(ulimitNames, u.Name) {
			return invalid("invalid ulimit type: %s", u.Name)
		}
		if u.Soft < -1 || u.Hard < -1 || u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
			return invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		d.out.Host.Ulimits = append(d.out.Host.Ulimits, moss.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return nil
}
