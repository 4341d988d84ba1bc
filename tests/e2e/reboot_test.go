package e2e

import (
	"strings"
	"testing"

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
		" && docker stop stopped")
	if err := m.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	// Nobody has asked the engine for anything: it starts with the user's manager.
	do("curl --silent --fail --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:18081/")
	want := "always running\nnever created\nonce exited\nstopped exited\nunless running"
	if got := do("docker ps --all --format '{{.Names}} {{.State}}' | sort"); got != want {
		t.Errorf("after the reboot:\n%s\nwant:\n%s", got, want)
	}
	if got := do("ls $XDG_RUNTIME_DIR/moss/netns | wc -l"); got != "2" {
		t.Errorf("%s network namespaces for 2 running containers", got)
	}
	do("docker rm -f always unless once stopped never && moss setup --uninstall --purge")
}
