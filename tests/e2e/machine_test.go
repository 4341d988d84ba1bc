package e2e

import (
	"strings"
	"testing"

	"github.com/moss-containers/moss/tests/rig"
)

// What needs root in its surroundings, in a machine of its own: root itself is
// turned away, and containers ask the host's name server.
func TestMachine(t *testing.T) {
	m := rig.New(t, "machine")
	ctx := t.Context()
	t.Run("root", func(t *testing.T) {
		const words = "moss does not run as root"
		for _, command := range []string{
			"env XDG_RUNTIME_DIR=/run mossd", "env XDG_RUNTIME_DIR=/run mossd rootless", "env XDG_RUNTIME_DIR=/run moss setup",
			"mossd", "mossd rootless", "moss setup", // a root shell seldom has the directory
		} {
			out, err := m.Root(ctx, "unset XDG_RUNTIME_DIR; export PATH=/src/bin:$PATH HOME=/root; "+command)
			out = strings.TrimSpace(out)
			if err == nil {
				t.Errorf("%s as root succeeds: %s", command, out)
			}
			if strings.Contains(out, "\n") || !strings.Contains(out, words) {
				t.Errorf("%s as root says: %s", command, out)
			}
		}
	})
	t.Run("dns", func(t *testing.T) {
		// A name server that gives every name the same address.
		const server = `printf '%s\n' 'd=$(mktemp -d); dd bs=512 count=1 of=$d/q 2>/dev/null' \
			'{ head -c 2 $d/q; printf "\201\200\0\1\0\1\0\0\0\0"; tail -c +13 $d/q; printf "\300\014\0\1\0\1\0\0\0\074\0\004\012\011\010\007"; } >$d/a; cat $d/a' >/tmp/answer
			systemd-run --quiet --unit=names socat UDP-RECVFROM:53,bind=192.0.2.1,fork EXEC:'sh /tmp/answer'`
		if out, err := m.Root(ctx, server); err != nil {
			t.Fatal(err, out)
		}
		out, err := m.User(ctx, `moss setup --runtime >/dev/null && mkdir -p box/bin && cp "$(command -v busybox)" box/bin && tar -C box -c . | docker import - box`)
		if err != nil {
			t.Fatal(err, out)
		}
		out, err = m.User(ctx, `docker run --rm box /bin/busybox nslookup -type=a some.test`)
		if err != nil || !strings.Contains(out, "10.9.8.7") {
			t.Errorf("a name is not found: %v: %s", err, out)
		}
		out, err = m.User(ctx, `moss setup --uninstall --purge`)
		if err != nil {
			t.Error(err, out)
		}
	})
}
