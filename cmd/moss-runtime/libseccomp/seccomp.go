// Package seccomp stands in for libseccomp-golang where libcontainer uses it.
// See README.md beside it. Comments on what is handed through are upstream's.
package seccomp

import upstream "moss.invalid/libseccomp-golang"

// The types are upstream's own, so that its methods and values fit.
type (
	ScmpArch      = upstream.ScmpArch
	ScmpAction    = upstream.ScmpAction
	ScmpCompareOp = upstream.ScmpCompareOp
	ScmpCondition = upstream.ScmpCondition
	ScmpSyscall   = upstream.ScmpSyscall
	VersionError  = upstream.VersionError
)

// ErrSyscallDoesNotExist says that a name is no system call's.
var ErrSyscallDoesNotExist = upstream.ErrSyscallDoesNotExist

// Architectures.
const (
	ArchInvalid     = upstream.ArchInvalid
	ArchNative      = upstream.ArchNative
	ArchX86         = upstream.ArchX86
	ArchAMD64       = upstream.ArchAMD64
	ArchX32         = upstream.ArchX32
	ArchARM         = upstream.ArchARM
	ArchARM64       = upstream.ArchARM64
	ArchMIPS        = upstream.ArchMIPS
	ArchMIPS64      = upstream.ArchMIPS64
	ArchMIPS64N32   = upstream.ArchMIPS64N32
	ArchMIPSEL      = upstream.ArchMIPSEL
	ArchMIPSEL64    = upstream.ArchMIPSEL64
	ArchMIPSEL64N32 = upstream.ArchMIPSEL64N32
	ArchPPC         = upstream.ArchPPC
	ArchPPC64       = upstream.ArchPPC64
	ArchPPC64LE     = upstream.ArchPPC64LE
	ArchS390        = upstream.ArchS390
	ArchS390X       = upstream.ArchS390X
	ArchRISCV64     = upstream.ArchRISCV64
	ArchLOONGARCH64 = upstream.ArchLOONGARCH64
)

// Actions.
const (
	ActInvalid     = upstream.ActInvalid
	ActKillThread  = upstream.ActKillThread
	ActKillProcess = upstream.ActKillProcess
	ActTrap        = upstream.ActTrap
	ActNotify      = upstream.ActNotify
	ActErrno       = upstream.ActErrno
	ActTrace       = upstream.ActTrace
	ActAllow       = upstream.ActAllow
	ActLog         = upstream.ActLog
)

// Comparisons.
const (
	CompareInvalid      = upstream.CompareInvalid
	CompareNotEqual     = upstream.CompareNotEqual
	CompareLess         = upstream.CompareLess
	CompareLessOrEqual  = upstream.CompareLessOrEqual
	CompareEqual        = upstream.CompareEqual
	CompareGreaterEqual = upstream.CompareGreaterEqual
	CompareGreater      = upstream.CompareGreater
	CompareMaskedEqual  = upstream.CompareMaskedEqual
)

// GetLibraryVersion returns the older of the versions compiled and run with.
func GetLibraryVersion() (major, minor, micro uint) { return upstream.GetLibraryVersion() }

// GetAPI returns libseccomp's API level, what it and the kernel can do.
func GetAPI() (uint, error) { return upstream.GetAPI() }

// GetNativeArch returns the architecture of the kernel.
func GetNativeArch() (ScmpArch, error) { return upstream.GetNativeArch() }

// GetArchFromString returns the architecture of that name.
func GetArchFromString(arch string) (ScmpArch, error) { return upstream.GetArchFromString(arch) }

// GetSyscallFromNameByArch returns a system call's number on arch.
func GetSyscallFromNameByArch(name string, arch ScmpArch) (ScmpSyscall, error) {
	return upstream.GetSyscallFromNameByArch(name, arch)
}

// MakeCondition checks and returns a condition on argument arg.
func MakeCondition(arg uint, comparison ScmpCompareOp, values ...uint64) (ScmpCondition, error) {
	return upstream.MakeCondition(arg, comparison, values...)
}
