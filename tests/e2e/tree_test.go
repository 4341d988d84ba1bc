package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/tests/busybox"
	"github.com/moss-containers/moss/tests/registry"
)

// treeEnv makes the test binary print what is below a directory, and nothing
// else: so it can be run inside user namespaces.
const treeEnv = "MOSS_E2E_TREE"

func init() {
	dir := os.Getenv(treeEnv)
	if dir == "" {
		return
	}
	if err := printTree(os.Stdout, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// printTree writes a line for each file: all that a tar can say of it.
func printTree(w io.Writer, dir string) error {
	first := map[uint64]string{} // name by inode; how many there are, an overlay tells of its lower layers
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		more := ""
		if !d.IsDir() && st.Nlink > 1 {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			} else {
				more = fmt.Sprintf(" is %q", first[st.Ino])
			}
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			more += fmt.Sprintf(" to %q", to)
		case unix.S_IFREG:
			sum, err := sumOf(path)
			if err != nil {
				return err
			}
			more += fmt.Sprintf(" %d bytes %x", st.Size, sum)
		}
		xattrs, err := xattrsOf(path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%q %o %d:%d %d.%09d%s%s\n", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, more, xattrs)
		return err
	})
}

func sumOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

func xattrsOf(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", err
	}
	out := ""
	for _, name := range slices.Sorted(strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00")) {
		if name == "" || name == "security.selinux" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("%s of %s: %w", name, path, err)
		}
		out += fmt.Sprintf(" %s=%x", name, value[:n])
	}
	return out, nil
}

// The tree in a container is the one that GNU tar unpacks as a user namespace's
// root, whichever way the image came; and so is what export writes.
func TestTree(t *testing.T) {
	leakFree(t)
	dir := t.TempDir()
	// What belongs to sub-ids only the user namespace may remove.
	t.Cleanup(func() { inNamespace(t, dir, "find . -mindepth 1 -delete") })
	layers := treeLayers(t, dir)
	want := reference(t, dir, layers)
	t.Logf("%d files in %d layers", strings.Count(want, "\n"), len(layers))

	archive := filepath.Join(dir, "image.tar")
	writeDockerArchive(t, archive, "tree:1", layers)
	start := time.Now()
	out := must(t, "docker", "load", "-i", archive)
	t.Logf("load: %.1f s", time.Since(start).Seconds())
	wantLeftOut(t, out)
	t.Run("load", func(t *testing.T) { sameTree(t, "tree:1", want) })
	t.Run("export", func(t *testing.T) { sameExport(t, dir, "tree:1", want) })
	t.Run("save", func(t *testing.T) { sameLayers(t, dir, "tree:1", layers) })
	removeWithLayers(t, "tree:1")

	r := registry.New(t, registry.Options{})
	for _, zstd := range []bool{false, true} {
		im := registry.Image{Docker: !zstd}
		for _, l := range layers {
			b, err := os.ReadFile(l)
			if err != nil {
				t.Fatal(err)
			}
			im.Layers = append(im.Layers, registry.Layer{Tar: b, Zstd: zstd})
		}
		r.Remote().Push(t, "tree", "1", im)
		ref := r.Host + "/tree:1"
		start := time.Now()
		out := must(t, "docker", "pull", ref)
		t.Logf("pull: %.1f s", time.Since(start).Seconds())
		wantLeftOut(t, out)
		t.Run(map[bool]string{false: "pull gzip", true: "pull zstd"}[zstd], func(t *testing.T) { sameTree(t, ref, want) })
		removeWithLayers(t, ref)
	}
}

// removeWithLayers removes an image and waits for its layers, which go behind the answer: one that is
// still there is not pulled again.
func removeWithLayers(t *testing.T, ref string) {
	t.Helper()
	must(t, "docker", "rmi", ref)
	until(t, "the layers of "+ref+" go", func() bool { return strings.TrimSpace(inData(t, "ls -A tmp/doomed")) == "" })
}

// wantLeftOut looks for what the user is told of device nodes.
func wantLeftOut(t *testing.T, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "Left out of layer ") && strings.Contains(line, "t/dev/null: device nodes cannot be made in a user namespace") {
			return
		}
	}
	t.Errorf("nobody is told that device nodes are left out:\n%s", out)
}

func sameTree(t *testing.T, ref, want string) {
	bb, err := busybox.Find()
	if err != nil {
		t.Fatal(err)
	}
	remove(t, "tree")
	must(t, "docker", "run", "-d", "--name", "tree", "--network", "none", "-v", bb+":/busybox:ro", ref, "/busybox", "sleep", "1000")
	pid := must(t, "docker", "inspect", "--format", "{{.State.Pid}}", "tree")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	got, err := suite.output(treeEnv+"=/proc/"+pid+"/root/t", "nsenter", "-t", pid, "-U", "--preserve-credentials", self)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, got, want)
	blocks := must(t, "docker", "exec", "tree", "/busybox", "stat", "-c", "%b", "/t/sparse-gnu", "/t/sparse-pax")
	for n := range strings.FieldsSeq(blocks) {
		if len(n) > 3 {
			t.Errorf("files with holes have %s blocks", n)
		}
	}
	must(t, "docker", "rm", "-f", "tree")
}

func wantSame(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	lines := func(s string) map[string]bool {
		m := map[string]bool{}
		for line := range strings.Lines(s) {
			m[line] = true
		}
		return m
	}
	told := 0
	tell := func(sign, s string, other map[string]bool) {
		for line := range strings.Lines(s) {
			if told < 40 && !other[line] {
				told++
				t.Errorf("%s %.200s", sign, line)
			}
		}
	}
	tell("-", want, lines(got))
	tell("+", got, lines(want))
	if told == 0 {
		t.Error("the order differs")
	}
}

// nanos are those of a time: tars that docker writes have none, nor have ours.
var nanos = regexp.MustCompile(`\.[0-9]{9}\b`)

// sameExport unpacks what export writes with GNU tar.
func sameExport(t *testing.T, dir, ref, want string) {
	remove(t, "exported")
	must(t, "docker", "create", "--name", "exported", ref, "none")
	must(t, "docker", "export", "-o", filepath.Join(dir, "export.tar"), "exported")
	inNamespace(t, dir, "mkdir export; tar "+unpackFlags+" -xf export.tar -C export")
	wantSame(t, nanos.ReplaceAllString(treeOf(t, filepath.Join(dir, "export/t")), ""), nanos.ReplaceAllString(want, ""))
	must(t, "docker", "rm", "exported")
}

// sameLayers compares the layers of a saved image with those it came with.
func sameLayers(t *testing.T, dir, ref string, layers []string) {
	inNamespace(t, dir, "docker save "+ref+" >saved.tar && mkdir saved && tar -xf saved.tar -C saved")
	data, err := os.ReadFile(filepath.Join(dir, "saved/manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m []struct{ Layers []string }
	if err := json.Unmarshal(data, &m); err != nil || len(m) != 1 || len(m[0].Layers) != len(layers) {
		t.Fatalf("manifest.json: %v: %s", err, data)
	}
	for i, l := range layers {
		must(t, "cmp", l, filepath.Join(dir, "saved", m[0].Layers[i]))
	}
}

// unpackFlags make GNU tar set all there is.
const unpackFlags = `--xattrs --xattrs-include='*' --same-owner --numeric-owner --same-permissions --warning=no-timestamp`

// reference unpacks the layers with GNU tar, one over the other, and returns
// the tree.
func reference(t *testing.T, dir string, layers []string) string {
	t.Helper()
	script := `mkdir ref
for l in ` + strings.Join(layers, " ") + `; do
    # Whiteouts come first; names with newlines have none.
    tar -tf "$l" --quoting-style=literal | grep -a '/\.wh\.' | while IFS= read -r w; do
        d=${w%/*} b=${w##*/}
        if [ "$b" = .wh..wh..opq ]; then find "ref/$d" -mindepth 1 -delete; else rm -rf "ref/$d/${b#.wh.}"; fi
    done
    case $l in *layer3.tar) rm -rf ref/t/becomes-file ;; esac # GNU tar keeps what is in the directory
    tar ` + unpackFlags + ` --exclude='.wh.*' -xf "$l" -C ref 2>err || ! grep -v -e 'Cannot mknod: Operation not permitted' -e 'Exiting with failure status' err || exit 1
done
test -d ref/t/dev && ! test -e ref/t/dev/null`
	inNamespace(t, dir, script)
	return treeOf(t, filepath.Join(dir, "ref/t"))
}

// inNamespace runs a shell script as root of a user namespace with the ids
// that the engine has.
func inNamespace(t *testing.T, dir, script string) {
	t.Helper()
	must(t, "unshare", "--user", "--map-auto", "--map-root-user", "sh", "-euc", "cd "+dir+"\numask 022\n"+script)
}

func treeOf(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := suite.output(treeEnv+"="+dir, "unshare", "--user", "--map-auto", "--map-root-user", self)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tarFile writes a tar of entries; each that is none of those types is a file
// of its Linkname's text.
func tarFile(t *testing.T, path string, entries ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		body := ""
		if h.Typeflag == tar.TypeReg {
			body, h.Linkname = h.Linkname, ""
		}
		h.Size, h.Format = int64(len(body)), tar.FormatPAX
		if h.Mode == 0 {
			h.Mode = map[bool]int64{false: 0o644, true: 0o755}[h.Typeflag == tar.TypeDir]
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1_600_000_000, 123_456_789)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// treeLayers makes layers' tars with all that a tar can have.
func treeLayers(t *testing.T, dir string) []string {
	t.Helper()
	// The last two are GNU tar's own, of files with holes in its own format and in POSIX's.
	inNamespace(t, dir, `
mkdir -p gnu/t pax/t
for f in gnu pax; do
    truncate -s 40M $f/t/sparse-$f
    for at in 0 1000 9999; do echo "at $at" | dd of=$f/t/sparse-$f bs=4096 seek=$at conv=notrunc 2>/dev/null; done
    touch -d @1600000002 $f/t/sparse-$f $f/t
done
long=$(printf 'n%.0s' $(seq 240)); mkdir -p gnu/t/$long/$long; echo long >gnu/t/$long/$long/$long; ln gnu/t/$long/$long/$long gnu/t/$long/link
ln -s $long/$long/$long gnu/t/long-link; chown -h 77:88 gnu/t/long-link; find gnu -print0 | xargs -0 touch -h -d @1600000003
tar --format=gnu -S -C gnu -cf layer2.tar t
echo file >pax/t/becomes-file; ln -s becomes-file pax/t/becomes-link; mkdir pax/t/becomes-dir; echo in >pax/t/becomes-dir/in; chown 12:34 pax/t/becomes-*; chmod 4711 pax/t/becomes-file
tar --format=posix --xattrs -S -C pax -cf layer3.tar t
chmod 644 layer2.tar layer3.tar; rm -rf gnu pax`)
	many := 4_000
	if os.Getenv("MOSS_LONG") != "" {
		many = 50_000
	}
	at := func(n string) string { return filepath.Join(dir, "layer"+n+".tar") }
	return []string{
		tarFile(t, at("1"), baseEntries()...), at("2"), at("3"),
		tarFile(t, at("4"), whiteoutEntries()...), tarFile(t, at("5"), againEntries()...), tarFile(t, at("6"), manyEntries(many)...),
	}
}

func baseEntries() []tar.Header {
	const dir, link, sym = tar.TypeDir, tar.TypeLink, tar.TypeSymlink
	capability := string([]byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	entries := []tar.Header{
		{Name: "t/", Typeflag: dir, Mode: 0o751},
		{Name: "t/plain", Linkname: "text"},
		{Name: "t/empty"},
		{Name: "t/big", Linkname: strings.Repeat("0123456789abcdef", 200_000)},
		{Name: "t/setuid", Linkname: "x", Mode: 0o4755, Uid: 1000, Gid: 1001},
		{Name: "t/setgid", Linkname: "x", Mode: 0o2711, Gid: 5},
		{Name: "t/all", Linkname: "x", Mode: 0o7777, Uid: 60000, Gid: 60001},
		{Name: "t/none", Linkname: "x", Mode: 0o1000},
		{Name: "t/world", Mode: 0o666},
		{Name: "t/sgid/", Typeflag: dir, Mode: 0o2770, Gid: 44},
		{Name: "t/sgid/file", Gid: 0},
		{Name: "t/sgid/dir/", Typeflag: dir},
		{Name: "t/hard1", Linkname: "one", Uid: 3},
		{Name: "t/hard2", Typeflag: link, Linkname: "t/hard1"},
		{Name: "t/sticky/", Typeflag: dir, Mode: 0o1777},
		{Name: "t/sticky/hard3", Typeflag: link, Linkname: "t/hard2"},
		{Name: "t/link", Typeflag: sym, Linkname: "plain", Uid: 9, Gid: 8},
		{Name: "t/away", Typeflag: sym, Linkname: "/nonexistent/../x"},
		{Name: "t/hardsym", Typeflag: link, Linkname: "t/link"},
		{Name: "t/fifo", Typeflag: tar.TypeFifo, Mode: 0o620, Uid: 7},
		{Name: "t/dev/", Typeflag: dir},
		{Name: "t/dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		{Name: "t/dev/disk", Typeflag: tar.TypeBlock, Devmajor: 8},
		{Name: "t/dev/file", Linkname: "x"},
		{Name: "t/xattr", Linkname: "x", Uid: 11, PAXRecords: map[string]string{"SCHILY.xattr.user.one": "1", "SCHILY.xattr.user.nul": "a\xff\xfe"}},
		{Name: "t/xattr-long", PAXRecords: map[string]string{"SCHILY.xattr.user.long": strings.Repeat("v", 3000)}},
		{Name: "t/capable", Linkname: "x", Mode: 0o755, Uid: 12, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}},
		{Name: "t/xattr-dir/", Typeflag: dir, Gid: 13, PAXRecords: map[string]string{"SCHILY.xattr.user.dir": "yes"}},
		{Name: "t/xattr-dir/file", Linkname: "x"},
		{Name: "t/old", ModTime: time.Unix(-5, 0)},
		{Name: "t/late", ModTime: time.Unix(5_000_000_000, 999_999_999)},
		{Name: "t/näme", Linkname: "x"},
		{Name: "t/a b\tc\\d", Linkname: "x"},
		{Name: "t/new\nline", Linkname: "x"},
		{Name: "t/.whatever", Linkname: "x"},
		{Name: "t/" + strings.Repeat("e", 255), Linkname: "x"},
		{Name: "t/becomes-file/", Typeflag: dir},
		{Name: "t/becomes-file/in", Linkname: "x"},
		{Name: "t/becomes-link", Linkname: "x"},
		{Name: "t/becomes-dir", Linkname: "x"},
	}
	for _, d := range []string{"gone", "opaque", "opaque/deep", "kept", "twice"} {
		entries = append(entries, tar.Header{Name: "t/" + d + "/", Typeflag: dir, Mode: 0o700}, tar.Header{Name: "t/" + d + "/one", Linkname: d}, tar.Header{Name: "t/" + d + "/two", Linkname: d})
	}
	deep := "t/deep/"
	for range 14 {
		entries = append(entries, tar.Header{Name: deep, Typeflag: dir})
		deep += strings.Repeat("p", 199) + "/"
	}
	return append(entries, tar.Header{Name: deep, Typeflag: dir}, tar.Header{Name: deep + "file", Linkname: "far"}, tar.Header{Name: "t/to-deep", Typeflag: link, Linkname: deep + "file"})
}

// whiteoutEntries take things of the layers below away.
func whiteoutEntries() []tar.Header {
	const dir = tar.TypeDir
	return []tar.Header{
		{Name: "t/", Typeflag: dir, Mode: 0o755},
		{Name: "t/.wh.gone"},
		{Name: "t/.wh.hard2"},
		{Name: "t/.wh.world"},
		{Name: "t/.wh.never-was"},
		{Name: "t/kept/", Typeflag: dir, Mode: 0o711},
		{Name: "t/kept/.wh.one"},
		// The opaque mark comes last: what is beside it in its own layer stays.
		{Name: "t/opaque/", Typeflag: dir, Mode: 0o750},
		{Name: "t/opaque/new", Linkname: "new"},
		{Name: "t/opaque/.wh..wh..opq"},
		{Name: "t/twice/", Typeflag: dir},
		{Name: "t/twice/.wh..wh..opq"},
		{Name: "t/twice/one", Linkname: "second"},
	}
}

// againEntries bring some of it back, and take some of that.
func againEntries() []tar.Header {
	const dir = tar.TypeDir
	return []tar.Header{
		{Name: "t/", Typeflag: dir, Mode: 0o755},
		{Name: "t/gone/", Typeflag: dir, Uid: 21},
		{Name: "t/gone/three", Linkname: "back"},
		{Name: "t/world/", Typeflag: dir},
		{Name: "t/hard2", Linkname: "alone"},
		{Name: "t/opaque/", Typeflag: dir},
		{Name: "t/opaque/.wh.new"},
		{Name: "t/opaque/one", Linkname: "again"},
		{Name: "t/twice/", Typeflag: dir},
		{Name: "t/twice/.wh..wh..opq"},
		{Name: "t/twice/two", Linkname: "third"},
		{Name: "t/kept/", Typeflag: dir},
		{Name: "t/kept/one", Typeflag: tar.TypeSymlink, Linkname: "two"},
	}
}

func manyEntries(n int) []tar.Header {
	entries := []tar.Header{{Name: "t/", Typeflag: tar.TypeDir}, {Name: "t/many/", Typeflag: tar.TypeDir}}
	for i := range n {
		dir := fmt.Sprintf("t/many/%03d/", i/100)
		if i%100 == 0 {
			entries = append(entries, tar.Header{Name: dir, Typeflag: tar.TypeDir})
		}
		entries = append(entries, tar.Header{Name: fmt.Sprintf("%sfile-%d", dir, i), Linkname: strings.Repeat(fmt.Sprintf("%d ", i), i%700)})
	}
	return entries
}

// writeDockerArchive makes an archive of layers' tars, as docker save would.
func writeDockerArchive(t *testing.T, path, tag string, layers []string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	add := func(name string, b []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	var names, diffs []string
	for i, l := range layers {
		b, err := os.ReadFile(l)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%d/layer.tar", i))
		diffs = append(diffs, fmt.Sprintf("sha256:%x", sha256.Sum256(b)))
		add(names[i], b)
	}
	add("config.json", jsonOf(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	}))
	add("manifest.json", jsonOf(t, []map[string]any{{"Config": "config.json", "RepoTags": []string{tag}, "Layers": names}}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func jsonOf(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
