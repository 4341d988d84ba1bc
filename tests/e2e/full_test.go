package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/moss-containers/moss/tests/rig"
)

// noSpace is how an engine whose disk is full says so.
var noSpace = regexp.MustCompile(`no space left on the device that holds /home/alice/\.local/share/moss`)

// makeImages makes archives of images of files that do not compress, and a
// registry that has them.
const makeImages = `set -e
mkdir images; cd images
make() { # make NAME LAYERS MEGABYTES
    layers= diffs=
    for i in $(seq $2); do
        mkdir -p x; head -c ${3}M /dev/urandom >x/$1-$i; tar -C x -cf $1-$i.tar $1-$i; rm -r x
        layers="$layers,\"$1-$i.tar\"" diffs="$diffs,\"sha256:$(sha256sum <$1-$i.tar | cut -c1-64)\""
    done
    printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' $(dpkg --print-architecture) "${diffs#,}" >config.json
    printf '[{"Config":"config.json","RepoTags":["%s:1"],"Layers":[%s]}]' $1 "${layers#,}" >manifest.json
    tar -cf $1.tar manifest.json config.json $1-*.tar
    rm $1-*.tar
    skopeo --insecure-policy copy -q --dest-tls-verify=false docker-archive:$1.tar docker://127.0.0.1:5077/$1:1
}
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:5077"}\n' $PWD/registry >reg.yml
systemd-run --user --quiet --unit=registry "$(command -v docker-registry || echo /src/bin/tools/docker-registry)" serve $PWD/reg.yml
curl -s --retry 50 --retry-connrefused --retry-delay 1 -o /dev/null http://127.0.0.1:5077/v2/
make big 4 20; make fits 2 12; make small 2 1`

// A disk that is full in the middle of a pull, a load or a write of a
// container's is told of, and hinders nothing else; a removal makes room.
func TestDiskFull(t *testing.T) {
	m := rig.New(t, "full")
	ctx := t.Context()
	do := func(command string) string {
		t.Helper()
		out, err := m.User(ctx, command)
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return strings.TrimSpace(out)
	}
	fails := func(command string) {
		t.Helper()
		out, err := m.User(ctx, command)
		t.Logf("%s: %s", command, out)
		if err == nil || !noSpace.MatchString(out) {
			t.Errorf("%s: %v: %s", command, err, out)
		}
	}
	const data = "/home/alice/.local/share/moss"
	if out, err := m.Root(ctx, "install -d -o alice -g alice /home/alice/.local /home/alice/.local/share "+data+
		" && mount -t tmpfs -o size=60m,mode=700,uid=$(id -u alice),gid=$(id -g alice) small "+data); err != nil {
		t.Fatal(err, out)
	}
	do(makeImages)
	do("moss setup --runtime && docker run -d --name web -p 127.0.0.1:18082:80 moss/hello")
	works := func() {
		t.Helper()
		do("curl --silent --fail http://127.0.0.1:18082/ && docker exec web /moss-hello --help 2>&1; docker ps | grep web && docker logs web && docker images && docker system df")
	}
	works()
	do("df --output=used -B1 " + data + " | tail -1 >before")
	left := func() string {
		return do("df --output=used -B1 " + data + " | tail -1 | awk -v b=$(cat before) '{print int(($1-b)/1048576)}'")
	}

	// Finished layers of a pull stay until something is pruned, for the next pull to have.
	fails("docker pull 127.0.0.1:5077/big:1")
	works()
	do("docker image prune -f")
	if n := left(); n != "0" {
		t.Errorf("a pull that found no room left %s MB behind", n)
	}
	fails("docker load -i images/big.tar")
	works()
	if n := left(); n != "0" {
		t.Errorf("a load that found no room left %s MB behind", n)
	}
	do("docker pull -q 127.0.0.1:5077/fits:1")
	fails("docker load -i images/big.tar")
	fails("docker import - too:big <images/big.tar")
	if got := do("docker images --format '{{.Repository}}' | sort | tr '\n' ' '"); got != "127.0.0.1:5077/fits moss/hello" {
		t.Errorf("images are %s", got)
	}

	// Filled to the last byte, by a container's file.
	do("docker exec web /moss-hello --help >/dev/null 2>&1; head -c 100M /dev/zero >" + data + "/filler 2>/dev/null; df " + data + " | grep -q 100%")
	out := do("docker ps --format '{{.Names}}' && curl --silent --fail http://127.0.0.1:18082/ >/dev/null && docker images -q | wc -l")
	if out != "web\n2" {
		t.Errorf("on a full disk: %s", out)
	}
	fails("docker pull 127.0.0.1:5077/small:1")
	do("docker rmi 127.0.0.1:5077/fits:1")
	do("docker pull -q 127.0.0.1:5077/small:1")
	do("rm " + data + "/filler; docker pull -q 127.0.0.1:5077/fits:1; docker rmi 127.0.0.1:5077/small:1 127.0.0.1:5077/fits:1")
	works()
	do("docker image prune -f")
	if n := left(); n != "0" {
		t.Errorf("%s MB are left of images that are gone", n)
	}
	// And a start on a full disk.
	do("head -c 100M /dev/zero >" + data + "/filler 2>/dev/null; systemctl --user kill --signal=KILL --kill-who=main moss.service")
	do("for i in $(seq 600); do docker ps && exit 0; sleep 0.1; done; journalctl --user --no-pager -n 20 -u moss; exit 1")
	do("docker ps | grep web; curl --silent --fail http://127.0.0.1:18082/")
	do("rm " + data + "/filler; docker rm -f web; moss setup --uninstall --runtime")
}
