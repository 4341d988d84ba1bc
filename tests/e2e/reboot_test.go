package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/tests/rig"
)

// A reboot ends containers and brings back those whose policy says so; the
// others keep their records, and nothing of the old boot is left.
func TestReboot(t *testing.T) {
	m := rig.New(t, "reboot")
	ctx := t.Context()
	do := func(command string) string {
		t.Helper()
		out, err := m.User(ctx, command)
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return strings.TrimSpace(out)
	}
	do("moss setup && docker run -d --name always --restart always -p 127.0.0.1:18081:80 moss/hello" +
		" && docker run -d --name unless --restart unless-stopped moss/hello && docker run -d --name stopped --restart unless-stopped moss/hello" +
		" && docker run -d --name once moss/hello && docker run -d --rm --name gone moss/hello && docker create --name never --restart always moss/hello" +
		" && docker run -d --name linked --restart always --link unless:u moss/hello && moss run -d --name last --restart always --link linked --volumes-from always moss/hello" +
		" && docker run -d --name first --restart always --label com.docker.compose.project=p --label com.docker.compose.service=first --label com.docker.compose.depends_on=second:service_started:false moss/hello" +
		" && moss run -d --name second --restart always --label com.docker.compose.project=p --label com.docker.compose.service=second moss/hello" +
		" && docker run -d --name crun --restart always --runtime crun moss/hello && moss run -d --name runc --restart always --runtime runc moss/hello" +
		" && docker stop stopped")
	if err := m.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	// Nobody has asked the engine for anything: it starts with the user's manager.
	do("curl --silent --fail --retry 60 --retry-all-errors --retry-delay 1 http://127.0.0.1:18081/")
	// Those that are linked could not start before what they are linked to.
	do("for n in last second first crun runc; do timeout 60 sh -c \"until docker ps --format '{{.Names}}' | grep -qx $n; do sleep 0.05; done\" || exit 1; done")
	want := "always running\ncrun running\nfirst running\nlast running\nlinked running\nnever created\nonce exited\nrunc running\nsecond running\nstopped exited\nunless running"
	if got := do("docker ps --all --format '{{.Names}} {{.State}}' | sort"); got != want {
		t.Errorf("after the reboot:\n%s\nwant:\n%s", got, want)
	}
	if got := do("ls $XDG_RUNTIME_DIR/moss/netns | wc -l"); got != "8" {
		t.Errorf("%s network namespaces for 8 running containers", got)
	}
	started := strings.Fields(do("docker inspect --format '{{.State.StartedAt}}' unless linked last second first"))
	for _, pair := range [][2]int{{0, 1}, {1, 2}, {3, 4}} {
		before, err := time.Parse(time.RFC3339Nano, started[pair[0]])
		after, err2 := time.Parse(time.RFC3339Nano, started[pair[1]])
		if err != nil || err2 != nil || !before.Before(after) {
			t.Errorf("of unless, linked, last, second and first, started at %s, number %d came not before %d", started, pair[0], pair[1])
		}
	}
	do("docker rm -f crun runc first second last linked always unless once stopped never && moss setup --uninstall --purge")
}
