package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

// layoutFiles makes OCI layouts that no honest tool makes, and those that some do.
type layoutFiles struct {
	t     testing.TB
	files []porttest.File
}

func newLayout(t testing.TB) *layoutFiles {
	return &layoutFiles{t, []porttest.File{{Name: "oci-layout", Text: `{"imageLayoutVersion":"1.0.0"}`}}}
}

func (l *layoutFiles) blob(mediaType string, b []byte) imgspec.Descriptor {
	d := imgspec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	l.files = append(l.files, porttest.File{Name: "blobs/sha256/" + d.Digest.Encoded(), Text: string(b)})
	return d
}

func (l *layoutFiles) json(mediaType string, v any) imgspec.Descriptor {
	b, err := json.Marshal(v)
	must(l.t, err)
	return l.blob(mediaType, b)
}

// image adds one of a single layer for a platform, and returns its descriptor and id.
func (l *layoutFiles) image(platform, alg string) (imgspec.Descriptor, moss.ImageID) {
	p, err := parsePlatform(platform)
	must(l.t, err)
	plain := porttest.Tar(l.t, porttest.File{Name: "platform", Text: platform})
	packed, kind := plain, imgspec.MediaTypeImageLayer
	if alg != "" {
		packed, kind = compressed(l.t, alg, plain), imgspec.MediaTypeImageLayer+"+"+strings.ToLower(alg)
	}
	config := l.json(imgspec.MediaTypeImageConfig, imgspec.Image{Platform: p, RootFS: imgspec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}}})
	m := imgspec.Manifest{MediaType: imgspec.MediaTypeImageManifest, Config: config, Layers: []imgspec.Descriptor{l.blob(kind, packed)}}
	m.SchemaVersion = 2
	d := l.json(imgspec.MediaTypeImageManifest, m)
	d.Platform = &p
	return d, moss.ImageID(config.Digest)
}

func (l *layoutFiles) index(descs ...imgspec.Descriptor) imgspec.Descriptor {
	x := imgspec.Index{MediaType: imgspec.MediaTypeImageIndex, Manifests: descs}
	x.SchemaVersion = 2
	return l.json(imgspec.MediaTypeImageIndex, x)
}

func (l *layoutFiles) archive(descs ...imgspec.Descriptor) []byte {
	x := imgspec.Index{MediaType: imgspec.MediaTypeImageIndex, Manifests: descs}
	x.SchemaVersion = 2
	b, err := json.Marshal(x)
	must(l.t, err)
	return porttest.Tar(l.t, append(l.files, porttest.File{Name: "index.json", Text: string(b)})...)
}

func called(d imgspec.Descriptor, name string) imgspec.Descriptor {
	d.Annotations = map[string]string{containerdName: name}
	return d
}

func TestLoadPlatforms(t *testing.T) {
	l := newLayout(t)
	amd, amdID := l.image("linux/amd64", "gzip")
	arm, armID := l.image("linux/arm64", "zstd")
	s390, s390ID := l.image("linux/s390x", "")
	inner := l.index(amd, arm)
	absent := s390
	absent.Digest = digest.FromString("left out")
	bare := func(d imgspec.Descriptor) imgspec.Descriptor { d.Platform = nil; return d }
	here := amdID
	if thisMachine().Architecture == "arm64" {
		here = armID
	}
	for name, c := range map[string]struct {
		archive  []byte
		platform string
		want     []moss.ImageID // nil for Invalid
	}{
		"this machine's":      {l.archive(called(inner, "x")), "", []moss.ImageID{here}},
		"asked for":           {l.archive(called(inner, "x")), "linux/arm64", []moss.ImageID{armID}},
		"with its variant":    {l.archive(called(inner, "x")), "linux/arm64/v8", []moss.ImageID{armID}},
		"as uname says":       {l.archive(called(inner, "x")), "linux/aarch64", []moss.ImageID{armID}},
		"none":                {l.archive(called(inner, "x")), "linux/riscv64", nil},
		"the only one":        {l.archive(called(s390, "x")), "", []moss.ImageID{s390ID}},
		"only one in index":   {l.archive(called(l.index(s390), "x")), "", []moss.ImageID{s390ID}},
		"only one there":      {l.archive(called(l.index(absent, s390), "x")), "", []moss.ImageID{s390ID}},
		"another one":         {l.archive(called(s390, "x")), "linux/amd64", nil},
		"no platform told":    {l.archive(called(bare(s390), "x")), "linux/amd64", nil},
		"in index.json":       {l.archive(called(amd, "x"), called(arm, "x")), "linux/arm64", []moss.ImageID{armID}},
		"nameless":            {l.archive(amd, arm, s390), "linux/s390x", []moss.ImageID{s390ID}},
		"index in index":      {l.archive(l.index(l.index(inner, absent))), "linux/arm64", []moss.ImageID{armID}},
		"two images":          {l.archive(called(amd, "x"), called(s390, "y")), "", []moss.ImageID{amdID, s390ID}},
		"two, one suits":      {l.archive(called(amd, "x"), called(s390, "y")), "linux/s390x", []moss.ImageID{s390ID}},
		"all left out":        {l.archive(l.index(absent)), "", nil},
		"deeper than allowed": {l.archive(l.index(l.index(l.index(l.index(l.index(amd)))))), "", nil},
		"bad platform":        {l.archive(called(inner, "x")), "linux", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			got, err := s.Load(t.Context(), bytes.NewReader(c.archive), moss.LoadOptions{Platform: c.platform}, func(moss.Progress) {})
			var ids []moss.ImageID
			for _, g := range got {
				ids = append(ids, g.ID)
			}
			if !slices.Equal(ids, c.want) || (c.want == nil) != (moss.ClassOf(err) == moss.Invalid) {
				t.Errorf("Load is %v, %v; want %v", got, err, c.want)
			}
			if left := leftovers(t, s); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestLoadAttestations(t *testing.T) {
	l := newLayout(t)
	amd, id := l.image("linux/amd64", "gzip")
	text := "{\"_type\": \"https://in-toto.io/Statement/v0.1\",\n  \"predicateType\": \"https://slsa.dev/provenance/v0.2\"}\n"
	bare := l.blob("application/vnd.in-toto+json", []byte(text))
	bare.Annotations = map[string]string{"in-toto.io/predicate-type": "https://spdx.dev/Document"}
	sealed := l.json("application/vnd.dsse.envelope.v1+json", map[string]any{"payloadType": "application/vnd.in-toto+json", "payload": []byte(text), "signatures": []string{}})
	m := imgspec.Manifest{MediaType: imgspec.MediaTypeImageManifest, Config: l.json(imgspec.MediaTypeImageConfig, imgspec.Image{}), Layers: []imgspec.Descriptor{bare, sealed}}
	m.SchemaVersion = 2
	att := l.json(imgspec.MediaTypeImageManifest, m)
	att.Platform = &imgspec.Platform{OS: "unknown", Architecture: "unknown"}
	att.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": amd.Digest.String()}
	dir := t.TempDir()
	s := open(t, dir)
	_, err := load(t, s, l.archive(called(l.index(amd, att), "x")))
	must(t, err)
	s.store.Free()
	s = open(t, dir)
	all, err := s.Attestations(t.Context(), id, nil)
	must(t, err)
	if len(all) != 2 || all[0].PredicateType != "https://spdx.dev/Document" || string(all[0].Statement) != text || all[0].Digest != bare.Digest.String() || all[1].PredicateType != "https://slsa.dev/provenance/v0.2" {
		t.Errorf("attestations are %+v", all)
	}
	if one, err := s.Attestations(t.Context(), id, []string{"https://spdx.dev/Document", "other"}); err != nil || len(one) != 1 {
		t.Errorf("of one type they are %+v, %v", one, err)
	}
	if _, err := s.Attestations(t.Context(), "sha256:"+moss.ImageID(strings.Repeat("0", 64)), nil); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("of no image they are %v", err)
	}
}

// What docker save made before version 25: a layer that comes twice is a link.
func TestLoadLegacy(t *testing.T) {
	layer := porttest.Tar(t, porttest.File{Name: "f", Text: "f"})
	diff := "sha256:" + porttest.Sum(layer)
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + diff + `","` + diff + `"]}}`
	name := porttest.Sum([]byte(config)) + ".json"
	archive := porttest.Tar(t,
		porttest.File{Name: "aa/", Type: tar.TypeDir}, porttest.File{Name: "aa/VERSION", Text: "1.0"}, porttest.File{Name: "aa/json", Text: "{}"}, porttest.File{Name: "aa/layer.tar", Text: string(layer)},
		porttest.File{Name: "bb/", Type: tar.TypeDir}, porttest.File{Name: "bb/VERSION", Text: "1.0"}, porttest.File{Name: "bb/layer.tar", Type: tar.TypeSymlink, Link: "../aa/layer.tar"},
		porttest.File{Name: name, Text: config},
		porttest.File{Name: "manifest.json", Text: `[{"Config":"` + name + `","RepoTags":["old:1"],"Layers":["aa/layer.tar","bb/layer.tar"]}]`},
		porttest.File{Name: "repositories", Text: `{}`})
	s := open(t, t.TempDir())
	var lines []moss.Progress
	_, err := s.Load(t.Context(), bytes.NewReader(archive), moss.LoadOptions{}, func(p moss.Progress) { lines = append(lines, p) })
	must(t, err)
	im, err := s.Resolve(t.Context(), "old:1")
	if err != nil || len(im.LayerSizes) != 2 {
		t.Errorf("image is %+v, %v", im, err)
	}
	one := moss.Progress{ID: diff[7:19], Status: "Loading layer", Current: int64(len(layer)), Total: int64(len(layer))}
	if want := []moss.Progress{one, one, {Status: "Loaded image: old:1"}}; !slices.Equal(lines, want) {
		t.Errorf("progress is %+v, want %+v", lines, want)
	}
}

// Whatever an archive says, what is wrong is refused, nothing is left and nothing outside is touched.
func TestHostileArchives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	outside := filepath.Join(dir, "outside")
	must(t, os.WriteFile(outside, []byte("safe"), 0o600))
	up := strings.Repeat("../", 20) + strings.TrimPrefix(outside, "/")
	good := porttest.Busybox()
	file := func(name, text string) porttest.File { return porttest.File{Name: name, Text: text} }
	names := func(config, layer string) porttest.File {
		return file("manifest.json", `[{"Config":"`+config+`","RepoTags":["x:1"],"Layers":["`+layer+`"]}]`)
	}
	plain := porttest.Tar(t, file("f", "f"))
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + porttest.Sum(plain) + `"]}}`
	sound := []porttest.File{file("c.json", config), file("l.tar", string(plain)), names("c.json", "l.tar")}
	if _, err := load(t, s, porttest.Tar(t, sound...)); err != nil {
		t.Fatalf("the sound one: %v", err)
	}
	must(t, s.Untag(t.Context(), "x:1"))
	for _, im := range first(s.List(t.Context())) {
		_, err := s.Delete(t.Context(), im.ID)
		must(t, err)
	}
	with := func(f ...porttest.File) []byte { return porttest.Tar(t, append(f, sound...)...) }
	link := func(name, to string, kind byte) porttest.File {
		return porttest.File{Name: name, Type: kind, Link: to}
	}
	l := newLayout(t)
	desc, _ := l.image("linux/amd64", "")
	lying := desc
	lying.Size++
	huge := desc
	huge.Size = 1 << 40
	loop := newLayout(t)
	for name, archive := range map[string][]byte{
		"dots":                    with(file(up, "x")),
		"dots inside":             with(file("a/../../b", "x")),
		"absolute":                with(file(outside, "x")),
		"link to the absolute":    with(link("a", outside, tar.TypeSymlink)),
		"link with dots":          with(link("a", up, tar.TypeSymlink)),
		"hard link with dots":     with(link("a", up, tar.TypeLink)),
		"config outside":          porttest.Tar(t, names(up, "l.tar"), sound[1]),
		"layer outside":           porttest.Tar(t, sound[0], names("c.json", up)),
		"layer absolute":          porttest.Tar(t, sound[0], names("c.json", outside)),
		"layer is a link loop":    porttest.Tar(t, sound[0], names("c.json", "a"), link("a", "b", tar.TypeSymlink), link("b", "a", tar.TypeSymlink)),
		"layer is a directory":    porttest.Tar(t, sound[0], names("c.json", "d"), porttest.File{Name: "d", Type: tar.TypeDir}),
		"layer comes twice":       porttest.Tar(t, append(sound, file("./l.tar", "other"))...),
		"manifest comes twice":    porttest.Tar(t, append(sound, names("c.json", "other"))...),
		"config's name lies":      porttest.Tar(t, file(strings.Repeat("0", 64)+".json", config), sound[1], names(strings.Repeat("0", 64)+".json", "l.tar")),
		"layer's name lies":       porttest.Tar(t, sound[0], file("blobs/sha256/"+strings.Repeat("0", 64), string(plain)), names("c.json", "blobs/sha256/"+strings.Repeat("0", 64))),
		"layer is text":           porttest.Tar(t, sound[0], file("l.tar", strings.Repeat("text", 1000)), sound[2]),
		"fewer layers":            porttest.Tar(t, sound[0], file("manifest.json", `[{"Config":"c.json","Layers":[]}]`)),
		"diff id is a path":       porttest.Tar(t, file("c.json", strings.Replace(config, porttest.Sum(plain), "../../../"+strings.Repeat("a", 55), 1)), sound[1], sound[2]),
		"configuration is large":  porttest.Tar(t, file("c.json", strings.Repeat(" ", maxJSON+1)), sound[1], sound[2]),
		"manifest is large":       porttest.Tar(t, file("manifest.json", strings.Repeat(" ", maxJSON+1))),
		"10 GB of manifest":       claims(t, "manifest.json", 10<<30),
		"10 GB of layer":          append(porttest.Tar(t, sound[0], sound[2])[:4*512], claims(t, "l.tar", 10<<30)...),
		"sparse":                  sparse(t),
		"blob's size lies":        l.archive(lying),
		"blob's size is huge":     l.archive(huge),
		"index is itself":         porttest.Tar(t, append(loop.files, file("index.json", `{"manifests":[{"mediaType":"`+imgspec.MediaTypeImageIndex+`","digest":"sha256:`+strings.Repeat("a", 64)+`","size":2}]}`), file("blobs/sha256/"+strings.Repeat("a", 64), "{}"))...),
		"manifest of two kinds":   l.archive(imgspec.Descriptor{MediaType: imgspec.MediaTypeImageIndex, Digest: desc.Digest, Size: desc.Size}),
		"two images, second bad":  porttest.DockerArchive(t, good, porttest.ArchiveImage{WrongDiffID: true, Layers: [][]porttest.File{{file("x", "x")}}}),
		"compressed text":         compressed(t, "gzip", []byte(strings.Repeat("text", 1000))),
		"compressed, then damage": damaged(compressed(t, "zstd", porttest.DockerArchive(t, good))),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := load(t, s, archive); moss.ClassOf(err) != moss.Invalid || len(got) > 0 {
				t.Errorf("Load is %v, %v; want invalid", got, err)
			} else {
				t.Log(err)
			}
			if list := first(s.List(t.Context())); len(list) > 0 {
				t.Errorf("there are images: %+v", list)
			}
			if left := leftovers(t, s); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if b, err := os.ReadFile(outside); string(b) != "safe" {
				t.Errorf("the file outside is %q, %v", b, err)
			}
		})
	}
}

func first[T any](v T, _ error) T { return v }

func damaged(b []byte) []byte {
	b = slices.Clone(b)
	for i := len(b) / 2; i < len(b)/2+20; i++ {
		b[i] ^= 0x55
	}
	return b
}

// claims is the start of a tar whose one file is said to be large.
func claims(t *testing.T, name string, size int64) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	must(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size, Mode: 0o644}))
	return append(buf.Bytes(), make([]byte, 1024)...)
}

// sparse is a tar of a file that has more bytes than there are.
func sparse(t *testing.T) []byte {
	var buf bytes.Buffer
	record := func(k, v string) string {
		n := len(k) + len(v) + 3
		for _, d := range []int{1, 2, 3} {
			if s := n + d; len(decimal(s)) == d {
				return decimal(s) + " " + k + "=" + v + "\n"
			}
		}
		return ""
	}
	data := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "manifest.json") + record("GNU.sparse.realsize", "10000000")
	raw := porttest.Tar(t, porttest.File{Name: "PaxHeaders/x", Text: data}, porttest.File{Name: "x", Text: "1\n0\n0\n" + strings.Repeat("\x00", 506)})
	raw[156] = 'x' // the type of the first member
	for i := 148; i < 156; i++ {
		raw[i] = ' '
	}
	sum := 0
	for _, b := range raw[:512] {
		sum += int(b)
	}
	copy(raw[148:], []byte(octal(sum)))
	buf.Write(raw)
	return buf.Bytes()
}

func decimal(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func octal(n int) string {
	out := []byte("000000\x00 ")
	for i := 5; i >= 0; i-- {
		out[i] = byte('0' + n&7)
		n >>= 3
	}
	return string(out)
}

// A load that is killed leaves nothing to be seen, and the next one succeeds.
func TestLoadKilled(t *testing.T) {
	if dir := os.Getenv("MOSS_TEST_LOAD"); dir != "" {
		archive, err := os.ReadFile(filepath.Join(dir, "archive"))
		must(t, err)
		s := open(t, dir)
		must(t, os.WriteFile(filepath.Join(dir, "begun"), nil, 0o600))
		_, err = load(t, s, archive)
		must(t, err)
		return
	}
	im := porttest.ArchiveImage{Tags: []string{"killed"}}
	for i := range 6 {
		var files []porttest.File
		for j := range 200 {
			files = append(files, porttest.File{Name: string(rune('a'+i)) + decimal(j), Text: strings.Repeat("x", 1000)})
		}
		im.Layers = append(im.Layers, files)
	}
	archive := porttest.DockerArchive(t, im)
	seen := 0
	for n := range 12 {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "archive"), archive, 0o600))
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLoadKilled$")
		cmd.Env = append(os.Environ(), "MOSS_TEST_LOAD="+dir)
		must(t, cmd.Start())
		for {
			if _, err := os.Stat(filepath.Join(dir, "begun")); err == nil {
				break
			}
			<-time.After(time.Millisecond)
		}
		<-time.After(time.Duration(n*n) * 8 * time.Millisecond)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		s := open(t, dir)
		list, err := s.List(t.Context())
		must(t, err)
		for _, im := range list {
			seen++
			if len(im.Names) != 1 || len(im.LayerSizes) != 6 {
				t.Errorf("after %d: image %+v", n, im)
			}
		}
		if _, err := load(t, s, archive); err != nil {
			t.Errorf("after %d: %v", n, err)
		}
		_, err = s.Collect(t.Context())
		must(t, err)
		if left := leftovers(t, s); len(left) > 0 {
			t.Errorf("after %d: left behind: %q", n, left)
		}
		s.store.Free()
	}
	t.Logf("%d of 12 were done before they were killed", seen)
}

// A client that leaves takes everything with it.
func TestLoadCancelled(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	big := porttest.ArchiveImage{Tags: []string{"big"}, Layers: [][]porttest.File{{{Name: "a", Text: strings.Repeat("a", 8<<20)}}, {{Name: "b", Text: strings.Repeat("b", 8<<20)}}}}
	_, err := s.Load(ctx, bytes.NewReader(porttest.DockerArchive(t, big)), moss.LoadOptions{}, func(moss.Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Load is %v", err)
	}
	if left := leftovers(t, s); len(left) > 0 || len(first(s.List(t.Context()))) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
