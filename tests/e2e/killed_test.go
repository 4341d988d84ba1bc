package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/tests/registry"
)

// A pull whose daemon is killed at any instant leaves nothing to be seen; the
// next one goes on from the layers that were finished. MOSS_LONG: 20 kills.
func TestKilledPull(t *testing.T) {
	leakFree(t)
	before := stored(t)
	o := newOrigin(t)
	layers := registry.Layers(6, 2<<20)
	layers[1].Files, layers[4].Files = 500, 2000
	made := o.Remote().Push(t, "killed", "1", registry.Image{Layers: layers, Cmd: []string{"/none"}})
	ref := o.ref("killed:1")
	slow := func() {
		o.proxy.Heal()
		o.proxy.Fault(registry.Fault{Path: "/blobs/", Rate: 3 << 20})
	}
	slow()
	begun := time.Now()
	must(t, "docker", "pull", ref)
	whole := time.Since(begun)
	want := contentOf(t, ref)
	must(t, "docker", "rmi", ref)
	emptied(t, before)

	kills := 5
	if os.Getenv("MOSS_LONG") != "" {
		kills = 20
	}
	reused, hits := 0, 0
	for i := range kills {
		slow()
		c := begin(t, "docker", "pull", ref)
		at := time.Duration(rand.Int64N(int64(whole)))
		select {
		case <-time.After(at):
		case <-c.done:
		}
		if err := suite.kill(); err != nil {
			t.Fatal(err)
		}
		out, err := c.wait()
		seen := must(t, "docker", "images", "-q", o.ref("killed"))
		if (seen == "" && err == nil) || (seen != "" && strings.TrimSpace(must(t, "docker", "inspect", "-f", "{{len .RootFS.Layers}}", ref)) != "6") {
			t.Fatalf("round %d, after %s: images %q, client %v:\n%s", i, at, seen, err, out)
		}
		if seen == "" {
			hits++
		}
		o.proxy.Heal()
		again := must(t, "docker", "pull", ref)
		for _, l := range made.Layers {
			short := l.Digest.Encoded()[:12]
			_, times := o.sent(l.Digest.String())
			if strings.Contains(out, short+": Pull complete") && times > 0 {
				t.Errorf("round %d: layer %s was complete, and is fetched again", i, short)
			}
			if seen == "" && (times == 0) != strings.Contains(again, short+": Already exists") {
				t.Errorf("round %d: layer %s was asked for %d times:\n%s", i, short, times, again)
			}
			if times == 0 {
				reused++
			}
		}
		if got := contentOf(t, ref); got != want {
			t.Fatalf("round %d, after %s: the tree is another one", i, at)
		}
		sizesAgree(t)
		must(t, "docker", "rmi", ref)
		must(t, "docker", "image", "prune", "-f")
		emptied(t, before)
	}
	t.Logf("a whole pull takes %s; %d of %d kills hit one; %d of %d layers were not fetched again", whole, hits, kills, reused, 6*kills)
	if hits == 0 {
		t.Error("no kill hit a pull")
	}
}

// What a killed pull has finished counts as reclaimable, and prune takes it.
func TestPruneOfKilledPull(t *testing.T) {
	leakFree(t)
	before, size := stored(t), layersSize(t)
	o := newOrigin(t)
	made := o.Remote().Push(t, "half", "1", registry.Image{Layers: registry.Layers(3, 4<<20)})
	o.proxy.Fault(registry.Fault{Path: "/blobs/" + made.Layers[2].Digest.String(), DropAfter: 1000, Stall: true})
	c := begin(t, "docker", "pull", o.ref("half:1"))
	until(t, "two layers", func() bool { return c.count(": Pull complete") == 2 })
	if err := suite.kill(); err != nil {
		t.Fatal(err)
	}
	sizesAgree(t)
	if more := layersSize(t) - size; more < 8<<20 || more > 9<<20 {
		t.Errorf("system df says that there are %d bytes more, which is not two layers", more)
	}
	// docker's client tells of space only where an image went.
	if out := must(t, "moss", "image", "prune", "-f"); !strings.Contains(out, "Total reclaimed space: 8.") {
		t.Errorf("prune says: %s", out)
	}
	emptied(t, before)
}

// A daemon that is killed while an image is copied for a user namespace leaves
// nothing of the copy that it did not finish; the next start makes it anew.
func TestKilledCopy(t *testing.T) {
	leakFree(t)
	before := stored(t)
	remove(t, "maker")
	must(t, "docker", "run", "--name", "maker", "busybox", "sh", "-c",
		`mkdir /d && for i in $(seq 2500); do : >/d/$i; done; chown 7:8 /d/*1; chown 9 /d/*2; chmod 4711 /d/*3; ln /d/1 /d/linked`)
	must(t, "docker", "commit", "maker", "many")
	must(t, "docker", "rm", "maker")
	const list = `find /d /bin -type f -exec stat -c "%n %u:%g %a %h" {} + | sort | sha256sum`
	want := must(t, "docker", "run", "--rm", "many", "sh", "-c", list)
	whole := stored(t)
	pid, err := os.ReadFile(filepath.Join(suite.run, "rootless/child_pid"))
	if err != nil {
		t.Fatal(err)
	}
	layers := func() int { return len(strings.Fields(inData(t, "ls -d storage/overlay/*/link"))) }
	had := layers()
	copying := func() bool { // its mount is there while owners are changed
		mounts, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "mountinfo"))
		return err == nil && strings.Contains(string(mounts), "storage/overlay/")
	}
	hits := 0
	for round := 0; round < 20 && hits < 2; round++ {
		kill := copying
		if round%2 == 1 {
			kill = func() bool { return layers() > had }
		}
		c := begin(t, "moss", "run", "--rm", "--userns", "auto", "many", "true")
		for deadline := time.Now().Add(patience); !kill(); {
			if time.Now().After(deadline) {
				t.Fatal("no copy is made")
			}
		}
		if err := suite.kill(); err != nil {
			t.Fatal(err)
		}
		_, err := c.wait()
		must(t, "docker", "container", "prune", "-f") // its record may have been written
		if layers() == had {                          // else it was finished, and stays
			hits++
			emptied(t, whole)
			if err == nil {
				t.Errorf("round %d: the client has not noticed", round)
			}
		}
		if got := must(t, "moss", "run", "--rm", "--userns", "auto", "many", "sh", "-c", list); got != want {
			t.Errorf("round %d: other files after the kill", round)
		}
		must(t, "docker", "image", "prune", "-f") // the copy
		emptied(t, whole)
	}
	if hits < 2 {
		t.Errorf("%d kills hit a copy", hits)
	}
	must(t, "docker", "rmi", "many")
	emptied(t, before)
}

// contentOf is a digest of all that a container of an image has.
func contentOf(t *testing.T, ref string) string {
	t.Helper()
	id := must(t, "docker", "create", "--pull=never", ref)
	defer must(t, "docker", "rm", id)
	// Times are left out: those of a container's own directories differ.
	return must(t, "bash", "-c", `set -eo pipefail; cd "$0"; docker export `+id+` | tar -x
		{ find . -printf '%p %y %m %U %l\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum`, t.TempDir())
}

// layersSize is what system df says that all layers take.
func layersSize(t *testing.T) int64 {
	t.Helper()
	var df struct{ LayersSize int64 }
	out := must(t, "sh", "-c", `curl -sS --fail --unix-socket "${DOCKER_HOST#unix://}" http://moss/v1.51/system/df`)
	if err := json.Unmarshal([]byte(out), &df); err != nil {
		t.Fatal(err)
	}
	return df.LayersSize
}

// sizesAgree compares what system df says of images with the disk.
func sizesAgree(t *testing.T) {
	t.Helper()
	disk, err := strconv.ParseInt(strings.Fields(inData(t, "du -s --apparent-size --block-size=1 storage/overlay"))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	got := layersSize(t)
	if spare := disk/5 + 1<<20; got < disk-spare || got > disk+spare {
		t.Errorf("system df says %d, the disk %d", got, disk)
	}
}
