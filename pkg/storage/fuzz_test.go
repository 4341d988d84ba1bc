package storage

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzTuning: options are refused as the user's mistake, in words, or what is read of
// them is what they say and nothing that moss sets itself; each stands for itself.
func FuzzTuning(f *testing.F) {
	f.Add("overlay.mountopt=nodev", "overlay.mount_program=/usr/bin/fuse-overlayfs")
	f.Add("overlay2.mountopt=metacopy=off,redirect_dir=nofollow", " .MOUNTOPT =x")
	f.Add("VFS.mountopt=nodev", "dm.mount_program=/x")
	f.Add("mountopt=a\x00b", "mount_program=relative")
	f.Add("overlay.mountopt=lowerdir", "overlay.size=\x1b")
	f.Fuzz(func(t *testing.T, a, b string) {
		got, err := parseTuning([]string{a, b})
		ta, errA := parseTuning([]string{a})
		tb, errB := parseTuning([]string{b})
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("%q, %q: %q is %v", a, b, err, moss.ClassOf(err))
			}
			if errA == nil && errB == nil {
				t.Errorf("%q and %q are refused together only: %v", a, b, err)
			}
			return
		}
		if errA != nil || errB != nil {
			t.Errorf("%q, %q: together they are well, alone %v, %v", a, b, errA, errB)
		}
		for _, one := range []struct {
			option string
			tuning
		}{{a, ta}, {b, tb}} {
			key, value, _ := strings.Cut(one.option, "=")
			if key = strings.ToLower(strings.TrimSpace(key)); strings.HasPrefix(key, "vfs") || strings.HasPrefix(key, "dm") {
				t.Errorf("%q is of another driver", one.option)
			}
			if program := strings.HasSuffix(key, "mount_program"); program && one.tuning != (tuning{mountProgram: value}) || !program && one.tuning != (tuning{mountOptions: value}) {
				t.Errorf("%q gives %+v", one.option, one.tuning)
			}
		}
		if want := (tuning{mountOptions: orElse(tb.mountOptions, ta.mountOptions), mountProgram: orElse(tb.mountProgram, ta.mountProgram)}); got != want {
			t.Errorf("%q, %q give %+v, want %+v", a, b, got, want)
		}
		if got.mountProgram != "" && !filepath.IsAbs(got.mountProgram) || strings.Contains(got.mountProgram+got.mountOptions, "\x00") {
			t.Errorf("%q, %q give %+v", a, b, got)
		}
		if got.mountOptions == "" {
			return
		}
		for o := range strings.SplitSeq(got.mountOptions, ",") {
			switch name, _, _ := strings.Cut(o, "="); name {
			case "", "lowerdir", "upperdir", "workdir", "userxattr", "ro", "volatile":
				t.Errorf("%q, %q have %q", a, b, o)
			}
		}
	})
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
