package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func unixTime(sec int64) time.Time { return time.Unix(sec, 0) }

func with(e entry, change func(h *tar.Header)) entry {
	change(&e.Header)
	return e
}

// everything is a tar of all kinds of files that a user namespace can make.
func everything() []entry {
	long := strings.Repeat("long/", 40) + strings.Repeat("n", 200)
	big := strings.Repeat("0123456789abcdef", 20000)
	owned := func(e entry, uid, gid int) entry { return with(e, func(h *tar.Header) { h.Uid, h.Gid = uid, gid }) }
	mode := func(e entry, m int64) entry { return with(e, func(h *tar.Header) { h.Mode = m }) }
	attr := func(e entry, kv ...string) entry {
		return with(e, func(h *tar.Header) {
			h.PAXRecords = map[string]string{}
			for i := 0; i < len(kv); i += 2 {
				h.PAXRecords["SCHILY.xattr."+kv[i]] = kv[i+1]
			}
		})
	}
	return []entry{
		directory("etc/"), file("etc/passwd", "root:x:0:0\n"), file("etc/empty", ""), hardlink("etc/passwd-", "./etc/passwd"),
		directory("usr/"), directory("usr/bin"), mode(file("usr/bin/su", "su"), 0o4755), mode(file("usr/bin/wall", "wall"), 0o2755), hardlink("usr/bin/sudo", "usr/bin/su"),
		symlink("bin", "usr/bin"), symlink("abs", "/etc/passwd"), symlink("dangling", "../../../nowhere"),
		mode(directory("tmp"), 0o1777), mode(directory("setgid"), 0o2775), owned(file("setgid/plain", "x"), 0, 0), directory("setgid/sub"),
		hardlink("link2", "etc/passwd-"), hardlink("soft", "abs"),
		owned(directory("home"), 1000, 1001), owned(file("home/a", "a"), 1000, 1001), owned(symlink("home/l", "a"), 1000, 65535),
		owned(mode(file("home/s", "s"), 0o6711), 12, 13), mode(file("none", "secret"), 0), mode(file("all", "open"), 0o777), mode(directory("closed"), 0o000), file("closed/in", "in"),
		file(long, "deep"), file("unicode-é-\n-\x01-\"-\\", "odd"), file("raw-\xff\xfe", "bytes"),
		owned(file("big", big), 5, 6), file("big2", big[:131072]), file("big3", big[:131073]),
		with(file("implied/by/a/file", "x"), func(*tar.Header) {}),
		with(entry{Header: tar.Header{Name: "fifo", Mode: 0o640, Typeflag: tar.TypeFifo}}, func(h *tar.Header) { h.Uid = 3 }),
		attr(file("xattr", "x"), "user.one", "1", "user.two", "\x00\x01"), attr(directory("xdir"), "user.d", "d"), file("xdir/f", "f"),
		attr(owned(file("capable", "x"), 7, 7), "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		with(file("nanos", "x"), func(h *tar.Header) { h.ModTime, h.Format = time.Unix(1, 123456789), tar.FormatPAX }),
		with(file("old", "x"), func(h *tar.Header) { h.ModTime, h.Format = time.Unix(-86400, 0), tar.FormatGNU }),
		file("//absolute//name", "x"), file("./dot/./name", "x"),
	}
}

func TestTreeIsGNUTars(t *testing.T) {
	s := fixture(t)
	plain := archiveOf(t, everything()...)
	id := commit(t, s, "", plain)
	wantTree(t, snapshot(t, layerDir(s, id)), gnuTar(t, plain))
	wantSame(t, s, id, plain)
	g, err := s.Stage(t.Context(), bytes.NewReader(plain), Expect{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Discard(); err != nil {
		t.Error(err)
	}
}

// A later entry of a name replaces the earlier, whatever they are.
func TestOddOrders(t *testing.T) {
	for name, entries := range map[string][]entry{
		"file before its directory":   {file("d/f", "x"), with(directory("d"), func(h *tar.Header) { h.Mode, h.Uid = 0o2750, 3 }), file("d/g", "y")},
		"directory twice":             {directory("d"), file("d/f", "x"), with(directory("d"), func(h *tar.Header) { h.Mode = 0o700 })},
		"file twice":                  {file("f", "one"), file("f", "two!")},
		"file thrice":                 {file("f", "one"), file("f", "two!"), file("f", "three")},
		"file, empty":                 {file("f", "one"), file("f", "")},
		"empty, file":                 {file("f", ""), file("f", "one")},
		"symlink, file":               {file("t", "target"), symlink("f", "t"), file("f", "mine")},
		"file, symlink":               {file("t", "target"), file("f", "mine"), symlink("f", "t")},
		"file, directory":             {file("d", "one"), directory("d"), file("d/f", "x")},
		"link, then its target again": {file("a", "one"), hardlink("b", "a"), file("a", "two!")},
		"target again, then link":     {file("a", "one"), file("a", "two!"), hardlink("b", "a")},
		"directory as symlink":        {file("real/x", "x"), symlink("d", "real"), file("d/f", "through"), file("d/g", "too")},
		"spelled in two ways":         {file("f", "one"), file("./f", "two!"), directory("d"), directory("./d/")},
	} {
		t.Run(name, func(t *testing.T) {
			s := fixture(t)
			plain := archiveOf(t, entries...)
			id := commit(t, s, "", plain)
			wantTree(t, snapshot(t, layerDir(s, id)), gnuTar(t, plain))
			wantSame(t, s, id, plain)
		})
	}
}

// GNU tar refuses these, docker does not.
func TestReplacedDirectory(t *testing.T) {
	s := fixture(t)
	plain := archiveOf(t, directory("d"), file("d/f", "gone"), directory("d/e"), hardlink("d/e/l", "d/f"), file("d/e/g", "gone too"), hardlink("keep", "d/f"),
		file("d", "now a file"), directory("x"), file("x/f", "gone"), symlink("x", "/y/z"), file("x/f", "in root"), directory("d"), file("d/f", "again"))
	id := commit(t, s, "", plain)
	wantSame(t, s, id, plain)
	for name, text := range map[string]string{"keep": "gone", "y/z/f": "in root", "d/f": "again"} {
		if b, err := os.ReadFile(filepath.Join(layerDir(s, id), name)); err != nil || string(b) != text {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
	if _, err := os.Stat(filepath.Join(layerDir(s, id), "d/e")); err == nil {
		t.Error("d/e is there")
	}
}

// Names are followed within the root, where GNU tar would not or differently.
func TestNamesStayInside(t *testing.T) {
	s := fixture(t)
	plain := archiveOf(t, directory("a"), directory("a/b"), symlink("a/b/up", ".."), file("a/b/up/f1", "1"),
		symlink("out", "../../../../../../../.."), file("out/f2", "2"), symlink("abs", "/new/dir"), file("abs/f3", "3"), directory("abs/sub"),
		symlink("one", "two/three"), symlink("two", "a"), file("one/f4", "4"), file("x/../f5", "5"), symlink("a/b/here", "."), file("a/b/here/here/f6", "6"),
		hardlink("a/b/up/l", "abs/f3"), hardlink("l2", "/out/out/f2"))
	id := commit(t, s, "", plain)
	wantSame(t, s, id, plain)
	for name, text := range map[string]string{
		"a/f1": "1", "f2": "2", "new/dir/f3": "3", "a/three/f4": "4", "f5": "5", "a/b/f6": "6", "a/l": "3", "l2": "2",
	} {
		if b, err := os.ReadFile(filepath.Join(layerDir(s, id), name)); err != nil || string(b) != text {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
}

// What tars GNU tar writes of real trees.
func TestGNUTarFormats(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	script := `mkdir -p src/a/b; cd src
		truncate -s 5M hole; printf start | dd of=hole conv=notrunc status=none; printf middle | dd of=hole bs=1 seek=2000000 conv=notrunc status=none
		truncate -s 1M end; printf x >> end; truncate -s 300k nothing
		for i in $(seq 30); do printf "$i" | dd of=many bs=1 seek=$((i*50000)) conv=notrunc status=none; done
		printf hello >a/b/f; ln a/b/f a/l; ln -s b a/s; mkfifo p; chmod 4711 a/b/f; chown 10:20 a/b`
	if out, err := exec.CommandContext(t.Context(), "sh", "-ec", "cd "+dir+"; "+script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, format := range []string{"--format=gnu --sparse", "--format=posix --sparse --sparse-version=0.0", "--format=posix --sparse --sparse-version=0.1", "--format=posix --sparse --sparse-version=1.0", "--format=ustar", "--format=v7", "--format=posix", "--format=gnu -b 200"} {
		t.Run(format, func(t *testing.T) {
			args := append(strings.Fields(format), "-C", src, "-c", ".")
			plain, err := exec.CommandContext(t.Context(), "tar", args...).Output()
			if err != nil && !strings.Contains(format, "v7") { // has no FIFOs
				t.Fatal(err)
			}
			s := fixture(t)
			id := commit(t, s, "", plain)
			wantTree(t, snapshot(t, layerDir(s, id)), gnuTar(t, plain))
			wantSame(t, s, id, plain)
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(layerDir(s, id), "hole"), &st); err != nil || strings.Contains(format, "sparse") && st.Blocks*512 > 1<<20 {
				t.Errorf("hole has %d blocks, %v", st.Blocks, err)
			}
		})
	}
}

// many is a tar of n small files.
func many(t testing.TB, n int) []byte {
	entries := []entry{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		dir := fmt.Sprintf("implied/node_modules/package-%d/dist", i/10)
		if i%10 == 0 {
			entries = append(entries, directory(filepath.Dir(dir)), directory(dir))
		}
		text := make([]byte, r.IntN(4096))
		for j := range text {
			text[j] = "abcdefghijklmnopqrstuvwxyz     \n"[r.IntN(32)]
		}
		entries = append(entries, file(fmt.Sprintf("%s/file-%d.js", dir, i), string(text)))
		if i%100 == 99 {
			entries = append(entries, hardlink(fmt.Sprintf("%s/link-%d.js", dir, i), fmt.Sprintf("%s/file-%d.js", dir, i)))
		}
	}
	return archiveOf(t, entries...)
}

func TestManyFiles(t *testing.T) {
	s := fixture(t)
	plain := many(t, 5000)
	id := commit(t, s, "", plain)
	wantTree(t, snapshot(t, layerDir(s, id)), gnuTar(t, plain))
	wantSame(t, s, id, plain)
}
