package runtime

import (
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// A parameter that cannot be set is the user's mistake, in whichever runtime's words.
func TestSysctlFailures(t *testing.T) {
	const head = "runc create failed: unable to start container process: error during container init: "
	for msg, want := range map[string]string{
		head + "open sysctl net.ipv4.nosuch file: unsafe procfs detected: openat2 fsmount:fscontext:proc/./sys/net/ipv4/nosuch: no such file or directory": `invalid sysctl "net.ipv4.nosuch": the kernel has none of this name`,
		head + "open sysctl net.core.rmem_max file: reopen fd 10: permission denied":                                                                       `invalid sysctl "net.core.rmem_max": it is of the whole machine`,
		head + `failed to write sysctl net.ipv4.ip_forward = "a: b": write fsmount:fscontext:proc/./sys/net/ipv4/ip_forward: invalid argument`:             `invalid sysctl "net.ipv4.ip_forward": the kernel does not take the value`,
		head + "open sysctl net. file: reopen fd 10: is a directory":                                                                                       `invalid sysctl "net.": it is a group`,
		head + "open /proc/sys/net/ipv4/nosuch: no such file or directory":                                                                                 `invalid sysctl "net.ipv4.nosuch": the kernel has none of this name`,
		head + "write /proc/sys/net/ipv4/ip_forward: invalid argument":                                                                                     `invalid sysctl "net.ipv4.ip_forward": the kernel does not take the value`,
		"open /proc/sys/net/ipv4/conf/eth7/tag: No such file or directory":                                                                                 `invalid sysctl "net.ipv4.conf.eth7.tag": the kernel has none of this name`,
		"write to /proc/sys/kernel/shmmax: Invalid argument":                                                                                               `invalid sysctl "kernel.shmmax": the kernel does not take the value`,
		"write to /proc/sys/kernel/shmmax: Numerical result out of range":                                                                                  `invalid sysctl "kernel.shmmax": numerical result out of range`,
	} {
		if err := translate(msg); moss.ClassOf(err) != moss.Invalid || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", msg, err)
		}
	}
	if err := translate("open /proc/self/fd: no such file or directory"); moss.ClassOf(err) == moss.Invalid {
		t.Errorf("another file: %v", err)
	}
}

// A working directory that cannot be is told of with the container's name, in whichever runtime's words.
func TestWorkdirFailures(t *testing.T) {
	c := &moss.Container{Name: "web", Config: moss.ContainerConfig{WorkingDir: "/etc/passwd/x"}}
	const head = `cannot use /etc/passwd/x as the working directory of "web": `
	for msg, want := range map[string]string{
		`cannot create container "a": unable to start container process: error during container init: mkdir /etc/passwd: not a directory`: head + "mkdir /etc/passwd: not a directory",
		"runc create failed: unable to start container process: error during container init: mkdir /proc/x: no such file or directory":    head + "mkdir /proc/x: no such file or directory",
		"chdir `/etc/passwd/x`: Not a directory":     head + "chdir `/etc/passwd/x`: not a directory",
		"chdir `/proc/x`: No such file or directory": head + "chdir `/proc/x`: no such file or directory",
	} {
		if err := workdirFailure(c, msg); moss.ClassOf(err) != moss.Invalid || err.Error() != want {
			t.Errorf("%s: %v", msg, err)
		}
	}
	for _, msg := range []string{"", "error during container init: error mounting \"/a\": mkdir /b: not a directory", `exec: "/x": is a directory`} {
		if err := workdirFailure(c, msg); err != nil {
			t.Errorf("%q: %v", msg, err)
		}
	}
}
