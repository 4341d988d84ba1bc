package units

import (
	"math"
	"strconv"
	"strings"

	sd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/moss-containers/moss/pkg/moss"
)

const defaultCPUPeriod = 100_000 // microseconds, the kernel's

// resourceProperties turns docker's limits into those of
// systemd.resource-control(5).
func resourceProperties(r moss.Resources) ([]sd.Property, error) {
	p := memoryProperties(r)
	if r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return nil, moss.Errorf(moss.Invalid, "Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	p = append(p, cpuProperties(r)...)
	for _, set := range []struct{ name, list string }{
		{"AllowedCPUs", r.CpusetCpus}, {"AllowedMemoryNodes", r.CpusetMems},
	} {
		if set.list == "" {
			continue
		}
		mask, err := bitmask(set.list)
		if err != nil {
			return nil, err
		}
		p = append(p, prop(set.name, mask))
	}
	// The manager's default is a share of the machine's; docker's is no limit.
	tasks := uint64(math.MaxUint64)
	if r.PidsLimit > 0 {
		tasks = uint64(r.PidsLimit)
	}
	p = append(p, prop("TasksMax", tasks))
	if r.BlkioWeight > 0 {
		p = append(p, prop("IOWeight", ioWeight(r.BlkioWeight)))
	}
	return p, nil
}

func memoryProperties(r moss.Resources) (p []sd.Property) {
	if r.Memory > 0 {
		p = append(p, prop("MemoryMax", uint64(r.Memory)))
	}
	if r.MemoryReservation > 0 {
		p = append(p, prop("MemoryLow", uint64(r.MemoryReservation)))
	}
	switch {
	case r.MemorySwap < 0:
		p = append(p, prop("MemorySwapMax", uint64(math.MaxUint64)))
	case r.MemorySwap > 0:
		p = append(p, prop("MemorySwapMax", uint64(max(r.MemorySwap-r.Memory, 0))))
	case r.Memory > 0: // docker's default: as much swap as memory
		p = append(p, prop("MemorySwapMax", uint64(r.Memory)))
	}
	return p
}

func cpuProperties(r moss.Resources) (p []sd.Property) {
	period := uint64(defaultCPUPeriod)
	if r.CPUPeriod > 0 {
		period = uint64(r.CPUPeriod)
	}
	switch {
	case r.NanoCPUs > 0:
		p = append(p, prop("CPUQuotaPerSecUSec", uint64(r.NanoCPUs)/1000))
	case r.CPUQuota > 0:
		p = append(p, prop("CPUQuotaPerSecUSec", uint64(r.CPUQuota)*1_000_000/period))
	}
	if r.CPUPeriod > 0 {
		p = append(p, prop("CPUQuotaPeriodUSec", period))
	}
	if r.CPUShares > 0 {
		p = append(p, prop("CPUWeight", cpuWeight(r.CPUShares)))
	}
	return p
}

// cpuWeight maps docker's shares (2…262144, usually 1024) onto cgroup v2's
// weight (1…10000, usually 100): the curve through those three points that the
// OCI runtimes agreed on.
func cpuWeight(shares int64) uint64 {
	l := math.Log2(float64(min(max(shares, 2), 262144)))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// bitmask turns a list as in cpuset(7), "0-3,6", into the bytes the manager takes.
func bitmask(list string) ([]byte, error) {
	const most = 8192 // the kernel's greatest NR_CPUS
	var mask []byte
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.ParseUint(first, 10, 32)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 32)
		}
		if err != nil || b < a || b >= most {
			return nil, moss.Errorf(moss.Invalid, "invalid set of cpus or memory nodes %q: want a list such as 0-3,6", list)
		}
		for i := a; i <= b; i++ {
			for uint64(len(mask)) <= i/8 {
				mask = append(mask, 0)
			}
			mask[i/8] |= 1 << (i % 8)
		}
	}
	return mask, nil
}
