package layer

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/containers/storage"
	"golang.org/x/sys/unix"
)

// gz compresses as docker does.
func gz(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// programs is a tar of n files of a megabyte, with a third of their entropy.
func programs(t testing.TB, n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	var entries []entry
	for i := range n {
		text := make([]byte, 1<<20)
		for j := 0; j < len(text); j += 32 {
			for k := range 12 {
				text[j+k] = byte(r.Uint32())
			}
			copy(text[j+12:j+32], "\x48\x89\xe5\x00\x00\x00\x00\xff\x15moss-program")
		}
		entries = append(entries, file("lib/lib"+strconv.Itoa(i)+".so", string(text)))
	}
	return archiveOf(t, entries...)
}

// BenchmarkLayer compares with the store's own way and with tar. User and
// system time are those of this process and its children.
func BenchmarkLayer(b *testing.B) {
	for _, l := range []struct {
		name  string
		plain []byte
	}{{"50000files", many(b, 50000)}, {"180MB", programs(b, 180)}} {
		z := gz(b, l.plain)
		b.Run(l.name+"/moss", func(b *testing.B) {
			measure(b, z, func(dir string) (func(), func()) {
				s := New(rawStore(b, dir, "overlay"), Options{})
				return func() { commit(b, s, "", z) }, func() {}
			})
		})
		b.Run(l.name+"/PutLayer", func(b *testing.B) {
			measure(b, z, func(dir string) (func(), func()) {
				raw := rawStore(b, dir, "overlay")
				return func() {
					if _, _, err := raw.PutLayer("", "", nil, "", false, &storage.LayerOptions{}, bytes.NewReader(z)); err != nil {
						b.Fatal(err)
					}
				}, func() {}
			})
		})
		b.Run(l.name+"/tar", func(b *testing.B) {
			measure(b, z, func(dir string) (func(), func()) {
				name := filepath.Join(dir, "x.tar.gz")
				if err := os.WriteFile(name, z, 0o600); err != nil {
					b.Fatal(err)
				}
				return func() {
					if out, err := exec.CommandContext(b.Context(), "tar", "-xzf", name, "-C", dir).CombinedOutput(); err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
				}, func() {}
			})
		})
	}
}

func measure(b *testing.B, z []byte, prepare func(dir string) (run, end func())) {
	b.SetBytes(int64(len(z)))
	var user, sys time.Duration
	for range b.N {
		b.StopTimer()
		dir, err := os.MkdirTemp("", "layer-bench-")
		if err != nil {
			b.Fatal(err)
		}
		run, end := prepare(dir)
		unix.Sync()
		u, s := spent(b)
		b.StartTimer()
		run()
		b.StopTimer()
		u2, s2 := spent(b)
		user, sys = user+u2-u, sys+s2-s
		end()
		_ = os.RemoveAll(dir)
		b.StartTimer()
	}
	b.ReportMetric(user.Seconds()*1000/float64(b.N), "user-ms/op")
	b.ReportMetric(sys.Seconds()*1000/float64(b.N), "sys-ms/op")
}

func spent(b *testing.B) (user, sys time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			b.Fatal(err)
		}
		user += time.Duration(r.Utime.Nano())
		sys += time.Duration(r.Stime.Nano())
	}
	return user, sys
}
