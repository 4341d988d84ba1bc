package e2e

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/moss-containers/moss/tests/rig"
)

// daemonRig is a machine with an engine, a container "web" that runs and one
// that has ended.
type daemonRig struct {
	*rig.Machine
	t *testing.T
}

// awaitEngine is a shell function: it returns when the engine answers.
const awaitEngine = `answers() { for i in $(seq 1200); do docker ps >/dev/null 2>&1 && return; sleep 0.1; done; docker ps; journalctl --user --no-pager -n 30 -u moss; return 1; }
`

func newDaemonRig(t *testing.T, name string) daemonRig {
	t.Helper()
	return daemonRig{rig.New(t, name), t}
}

func (r daemonRig) do(command string) string {
	r.t.Helper()
	out, err := r.User(r.t.Context(), awaitEngine+command)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(out)
}

func (r daemonRig) root(command string) {
	r.t.Helper()
	if out, err := r.Root(r.t.Context(), command); err != nil {
		r.t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// says runs a command that must fail and say this.
func (r daemonRig) says(command string, want ...string) {
	r.t.Helper()
	out, err := r.User(r.t.Context(), command)
	if err == nil {
		r.t.Errorf("%s: no error: %s", command, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			r.t.Errorf("%s: want %q: %s", command, w, out)
		}
	}
}

func (r daemonRig) setUp() (pid string) {
	r.t.Helper()
	r.do("moss setup --runtime && docker run -d --name web --restart=always -p 127.0.0.1:18082:80 moss/hello && docker create --name ended moss/hello")
	return r.do("docker inspect -f '{{.State.Pid}}' web")
}

// same checks that the containers are those of before.
func (r daemonRig) same(pid string) {
	r.t.Helper()
	got := r.do(`answers; docker inspect -f '{{.State.Pid}} {{.State.Status}}' web ended; curl -sf -o /dev/null http://127.0.0.1:18082/ && docker run --rm moss/hello --help 2>&1 | head -1`)
	if got != pid+" running\n0 created\nUsage of /moss-hello:" {
		r.t.Errorf("containers are %q, want web with %s", got, pid)
	}
}

// Where the data root cannot be written to, every request gets the reason,
// containers run on, and all is well when it can be again.
func TestReadOnlyDisk(t *testing.T) {
	r := newDaemonRig(t, "readonly")
	const data = "/home/alice/.local/share/moss"
	r.root("install -d -o alice -g alice /home/alice/.local /home/alice/.local/share " + data +
		" && mount -t tmpfs -o size=60m,mode=700,uid=$(id -u alice),gid=$(id -g alice) small " + data)
	pid := r.setUp()
	r.do("systemctl --user stop moss.socket moss.service")
	r.root("mount -o remount,ro " + data)
	r.do("systemctl --user start moss.socket")
	r.says("docker ps", "the engine cannot start", "read-only file system")
	r.says("docker stop web", "the engine cannot start", "read-only file system")
	r.do("curl -sf http://127.0.0.1:18082/ >/dev/null")
	r.root("mount -o remount,rw " + data)
	r.do("systemctl --user restart moss.service")
	r.same(pid)
}

// A data root whose file system gives up under the engine, as ext4 does when its
// journal cannot be written: what must write says why, all else is as before, the
// same daemon stays, and mended is what fsck and a mount mend.
func TestFailedDisk(t *testing.T) {
	if _, err := os.Stat("/sys/block/loop0"); err != nil {
		t.Skip("the kernel has no loop devices: ", err)
	}
	r := newDaemonRig(t, "faileddisk")
	const data = "/home/alice/.local/share/moss"
	r.root("for i in 0 1 2 3 4 5 6 7; do mknod /dev/loop$i b 7 $i; done; mknod /dev/loop-control c 10 237; install -d -o alice -g alice /home/alice/.local /home/alice/.local/share " + data +
		" && truncate -s 64M /home/disk && mkfs.ext4 -q /home/disk && mount -o loop,errors=remount-ro /home/disk " + data + " && rm -r " + data + "/lost+found && chown alice:alice " + data + " && chmod 700 " + data)
	pid := r.setUp()
	daemon := r.do("systemctl --user show -P MainPID moss.service")
	r.root("sync -f " + data + " && mount -o remount,abort " + data + "; ! touch " + data + "/no")
	for _, command := range []string{
		"docker create moss/hello", "docker start ended", "docker rename ended other", "docker tag moss/hello other", "docker update --restart no web", "docker rm ended",
		"docker volume create volume", "docker network create network", "docker cp /etc/hostname web:/",
	} {
		r.says(command, "ead-only file system")
	}
	out := r.do("docker ps --format '{{.Names}}'; docker inspect -f '{{.State.Pid}}' web; docker images -q | wc -l; docker info -f '{{.ContainersRunning}}'; docker exec web /moss-hello --help 2>&1 | head -1; docker logs web 2>&1 | grep -c listens; curl -sf -o /dev/null http://127.0.0.1:18082/ && systemctl --user show -P MainPID moss.service")
	if want := "web\n" + pid + "\n1\n1\nUsage of /moss-hello:\n1\n" + daemon; out != want {
		t.Errorf("on a failed disk: %q, want %q", out, want)
	}
	r.do("systemctl --user stop moss.socket moss.service moss-rootless.service")
	r.root("umount " + data + " && { e2fsck -p /home/disk || [ $? = 1 ]; } && mount -o loop /home/disk " + data)
	r.do("systemctl --user start moss.socket; for i in $(seq 600); do docker ps -q --filter status=running | grep -q . && break; sleep 0.1; done; docker rm ended && docker create --name ended moss/hello")
	r.same(r.do("docker inspect -f '{{.State.Pid}}' web"))
}

// A second engine on the data root of another says whose it is, to everyone who
// asks, and the first does not notice.
func TestTwoDaemonsOnOneDataRoot(t *testing.T) {
	if os.Getenv("MOSS_LONG") == "" {
		t.Skip("each try waits five seconds for the first daemon to end: make robust")
	}
	r := newDaemonRig(t, "two")
	pid := r.setUp()
	r.do(`mkdir -p ~/.config/moss-two && echo "{\"data-root\": \"$HOME/.local/share/moss\"}" >~/.config/moss-two/daemon.json && moss setup --prefix moss-two --runtime`)
	first := r.do("systemctl --user show -P MainPID moss.service")
	r.says("docker -H unix://$XDG_RUNTIME_DIR/moss-two/moss.sock ps", "the engine cannot start", "another mossd (pid "+first+",", "data-root of its own")
	r.do("moss setup --prefix moss-two --uninstall --runtime")
	if now := r.do("systemctl --user show -P MainPID moss.service"); now != first {
		t.Errorf("the first daemon was %s and is %s", first, now)
	}
	r.same(pid)
}

// The engine lives through the loss of its connections to the manager; where
// there is no way to it any more, requests are told so.
func TestVanishedBus(t *testing.T) {
	r := newDaemonRig(t, "bus")
	pid := r.setUp()
	const dbus = `kill -9 $(systemctl --user show -P MainPID dbus.service)`
	r.do("systemctl --user start dbus.service && " + dbus)
	r.same(pid)
	r.do("systemctl --user daemon-reexec") // closes its private connections
	r.same(pid)

	// On the bus alone, which goes as well.
	r.do(`systemctl --user start dbus.service; D=$(systemctl --user show -P MainPID dbus.service) M=$(systemctl --user show -P MainPID moss.service)
		rm $XDG_RUNTIME_DIR/systemd/private; kill -9 $M; answers; kill -9 $D`)
	r.same(pid)
	if os.Getenv("MOSS_LONG") == "" {
		return
	}
	r.do(`mv $XDG_RUNTIME_DIR/bus $XDG_RUNTIME_DIR/bus.away; kill -9 $(pgrep -u $(id -u) -x dbus-daemon); docker ps`)
	r.says("docker kill --signal WINCH web", "the user's systemd does not answer")
	r.do("curl -sf http://127.0.0.1:18082/ >/dev/null")
	r.do("for i in $(seq 1200); do docker ps 2>&1 | grep -q 'cannot reach the user.s systemd' && exit; sleep 0.1; done; docker ps; exit 1") // the watchdog has ended it
	r.do("mv $XDG_RUNTIME_DIR/bus.away $XDG_RUNTIME_DIR/bus")
	r.same(pid)
}

// killAtStart kills each daemon a little later after its start than the one
// before, and prints how they ended that were not killed by the signal.
const killAtStart = `
S=$1 ROUNDS=$2
kill -9 $(systemctl --user show -P MainPID moss.service)
for i in $(seq 0 $ROUNDS); do
    old=$p p=
    while [ -z "$p" ] || [ "$p" = "$old" ] || [ "$p" = 0 ]; do p=$(systemctl --user show -P MainPID moss.service); done
    sleep $(printf '0.%03d' $((i * 8)))
    kill -$S $p 2>/dev/null
    while [ -e /proc/$p ]; do sleep 0.01; done
    [ $((i % 5)) != 4 ] || answers
    systemctl --user reset-failed moss.service # what is counted here is ours
done
answers
journalctl --user --no-pager -o cat -u moss | grep 'Main process exited' | grep -v -e 'code=killed, status=9/KILL' -e 'code=killed, status=15/TERM' || true
`

// SIGKILL and SIGTERM in the middle of a start: the next is right.
func TestKilledAtStart(t *testing.T) {
	r := newDaemonRig(t, "atstart")
	pid := r.setUp()
	rounds := "12"
	if os.Getenv("MOSS_LONG") != "" {
		rounds = "40"
	}
	for _, signal := range []string{"KILL", "TERM"} {
		if out := r.do("set -- " + signal + " " + rounds + "\n" + killAtStart); out != "" {
			t.Errorf("SIG%s: daemons ended with an error: %s", signal, out)
		}
		r.same(pid)
	}
	left, err := r.User(context.WithoutCancel(t.Context()), `docker rm -f web ended >/dev/null; ls $XDG_RUNTIME_DIR/moss/bundles $XDG_RUNTIME_DIR/moss/netns $XDG_RUNTIME_DIR/moss/runtime | grep -E '^[0-9a-f]{64}' ; systemctl --user list-units --all --plain --no-legend 'moss-*' | grep -v rootless; ls ~/.local/share/moss/containers`)
	if strings.TrimSpace(left) != "" {
		t.Errorf("left are %s (%v)", left, err)
	}
}

// An upgrade is make install and a restart: containers run on, records of an
// older schema are moved on, those of a newer one refused with the way out.
func TestUpgrade(t *testing.T) {
	r := newDaemonRig(t, "upgrade")
	r.do("mkdir -p ~/.local/bin && install -m 0755 /src/bin/{moss,mossd,moss-runtime,moss-rootless,moss-gvisor} ~/.local/bin && printf older >>~/.local/bin/mossd && ~/.local/bin/moss setup --runtime && docker run -d --name web --restart=always -p 127.0.0.1:18082:80 moss/hello && docker create --name ended moss/hello")
	pid := r.do("docker inspect -f '{{.State.Pid}}' web")
	schema := func(from, to string) { // the value stands behind its key; a database of those that have one digit
		t.Helper()
		r.do(`systemctl --user stop moss.socket moss.service; sed -i s/schema` + from + `/schema` + to + `/g ~/.local/share/moss/moss.db $XDG_RUNTIME_DIR/moss/run.db
			grep -c schema` + to + ` ~/.local/share/moss/moss.db`)
	}
	schema("2", "1")
	r.do("systemctl --user start moss.socket")
	r.same(pid)
	if out := r.do("ls ~/.local/share/moss/moss.db.schema-1 && grep -ac schema2 ~/.local/share/moss/moss.db"); !strings.HasSuffix(out, "\n1") {
		t.Errorf("moved on: %s", out)
	}

	r.do("install -m 0755 /src/bin/{moss,mossd,moss-runtime,moss-rootless,moss-gvisor} ~/.local/bin && systemctl --user restart moss && cmp /src/bin/mossd /proc/$(systemctl --user show -P MainPID moss.service)/exe")
	r.same(pid)

	schema("2", "9")
	r.do("systemctl --user start moss.socket")
	r.says("docker ps", "the engine cannot start", "it has schema 9 and this moss knows 2: install the moss that wrote it")
	r.do("curl -sf http://127.0.0.1:18082/ >/dev/null")
	schema("9", "2")
	r.do("systemctl --user start moss.socket && systemctl --user restart moss.service")
	r.same(pid)
}

// The socket serves its owner and root, and nobody else even where its mode would
// let them in: other users have no number in the engine's user namespace, or one
// that the kernel gives to all who have none.
func TestWhoIsServed(t *testing.T) {
	r := newDaemonRig(t, "peers")
	r.do("moss setup --runtime && docker version")
	const sock = `cd "/run/user/$(id -u alice)"; export DOCKER_HOST=unix://$PWD/moss/moss.sock; `
	r.root(sock + "docker ps")
	r.root(sock + "chmod a+x . moss; chmod a+rw moss/moss.sock")
	r.root(sock + `SUB=$(sed -n 's/^alice:\([0-9]*\):.*/\1/p' /etc/subuid)
		for uid in 65534 12345 $SUB $((SUB + 65533)); do
			setpriv --reuid $uid --regid 65534 --clear-groups env HOME=/ docker ps >/dev/null 2>/tmp/said && { echo $uid is served; exit 1; }
			grep 'belongs to another user' /tmp/said || { cat /tmp/said; exit 1; }
		done
		docker ps`)
	r.do("docker ps")
}

// Clients of a daemon that is restarted end: those that wait for an answer with an
// error, those that follow something with what there was. Containers run on.
func TestRestartUnderClients(t *testing.T) {
	r := newDaemonRig(t, "clients")
	pid := r.setUp()
	out := r.do(`
		docker attach --no-stdin --sig-proxy=false web >attach 2>&1 & A=$!
		docker wait web >wait 2>&1 & W=$!
		docker exec web /moss-hello -addr :81 >exec 2>&1 & X=$!
		docker logs -f web >logs 2>&1 & L=$!
		docker events --since 10m >events 2>&1 & E=$!
		until grep -qs listens exec && grep -qs listens logs && grep -qs exec_start events; do sleep 0.1; done
		systemctl --user restart moss.service
		wait $L; wait $E
		for p in $A $W $X; do wait $p && echo "no error: $p of $A $W $X"; done; true`)
	if out != "" {
		t.Errorf("%s: %s", out, r.do("tail -n 3 attach wait exec"))
	}
	r.same(pid)
}
