package moss

import (
	"net/netip"
	"time"
)

// StorageInfo tells which storage driver is used and why.
type StorageInfo struct {
	Driver string // "overlay" or "vfs"
	Root   string
	Status [][2]string // shown by docker info
}

// AddressPool is a range that subnets of a size are cut from.
type AddressPool struct {
	Base netip.Prefix
	Size int // of a subnet, in bits
}

// HostInfo is what info tells of the machine and of moss's place in it.
type HostInfo struct {
	KernelVersion   string
	OperatingSystem string
	OSVersion       string
	Architecture    string // as uname(2) says: x86_64
	CPUs            int
	Memory          int64 // bytes
	Hostname        string
	UID             int // of the user, outside the user namespace
	SystemdVersion  string
	NetworkDriver   string // of the holder: slirp4netns, pasta, gvisor-tap-vsock
	NetworkWhy      string // why this one
	NetworkBetter   string // what another one would bring; "" where it is the best
	NetworkMTU      int    // bytes, of networks that name none
	NetworkIPv6     bool   // IPv6 goes out
	NetworkPools    []AddressPool
	Filter          string // what filters packets: "nftables"; "" for nothing
	Controllers     []string
	NoLimits        string // why no container can have limits; "" where a controller decides
	Warnings        []string
	HTTPProxy       string // of the engine itself, without who it logs in as
	HTTPSProxy      string
	NoProxy         string
}

// Info is the state of the engine.
type Info struct {
	ID         string
	Host       HostInfo
	Storage    StorageInfo
	Containers map[State]int
	Images     int
	Started    time.Time
	DataRoot   string
	Runtimes   map[string]string // name → path
	Runtime    string
	Labels     []string
	LogDriver  string // of containers that choose none
	Registry   RegistryInfo
	Seccomp    string // profile of containers that do not say; "" is moss's own
}
