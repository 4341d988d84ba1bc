package config

import "testing"

func FuzzHost(f *testing.F) {
	for _, s := range []string{"unix:///run/x.sock", "tcp://[::1]:2375", "tcp://:0", "fd://", "tcp://h"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) { _, _ = ParseHost(s) })
}
