package storage

import "testing"

func FuzzTuning(f *testing.F) {
	f.Add("overlay.mountopt=nodev", "overlay.mount_program=/usr/bin/fuse-overlayfs")
	f.Fuzz(func(_ *testing.T, a, b string) { _, _ = parseTuning([]string{a, b}) })
}
