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
		// Name servers that give every name the same address: a foreign one, one where systemd-resolved's stub is, and one of somebody else's.
		const server = `printf '%s\n' 'd=$(mktemp -d); dd bs=512 count=1 of=$d/q 2>/dev/null' \
			'{ head -c 2 $d/q; printf "\201\200\0\1\0\1\0\0\0\0"; tail -c +13 $d/q; printf "\300\014\0\1\0\1\0\0\0\0\0\004\012\011\010\00$1"; } >$d/a; cat $d/a' >/tmp/answer
			for s in 192.0.2.1.7 127.0.0.53.6 127.0.0.77.5; do
				systemd-run --quiet --unit=names-$s socat UDP-RECVFROM:53,bind=${s%.*},fork EXEC:"sh /tmp/answer ${s##*.}"
			done`
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
		// It is followed while a container runs: another content, a link as systemd-resolved wants it, and no file for a while.
		out, err = m.User(ctx, `docker network create names && docker run -d --name asks --network names box /bin/busybox sleep inf`)
		if err != nil {
			t.Fatal(err, out)
		}
		for _, step := range []struct{ change, want string }{
			{"true", "10.9.8.7"},
			{"mkdir -p /run/systemd/resolve && printf 'nameserver 127.0.0.53\\noptions edns0 trust-ad\\nsearch .\\n' >/run/systemd/resolve/stub-resolv.conf && ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf", "10.9.8.6"},
			{"rm /etc/resolv.conf && echo nameserver 127.0.0.77 >/etc/resolv.conf", "10.9.8.5"},
			{"rm /etc/resolv.conf", "10.9.8.5"},
			{"printf 'nameserver 192.0.2.1\\nsearch .\\n' >/run/systemd/resolve/resolv.conf && ln -s /run/systemd/resolve/resolv.conf /etc/resolv.conf", "10.9.8.7"},
			{"ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf", "10.9.8.6"},
			{"echo nameserver 127.0.0.77 >/run/systemd/resolve/stub-resolv.conf", "10.9.8.5"},
		} {
			if out, err := m.Root(ctx, step.change); err != nil {
				t.Fatal(err, out)
			}
			out, err := m.User(ctx, `for i in $(seq 20); do docker exec asks /bin/busybox nslookup -type=a some.test 2>&1 | tee said; grep -qF `+step.want+` said && exit; sleep 0.5; done`)
			if err != nil || !strings.Contains(out, step.want) {
				t.Errorf("after %s a name has not the address %s: %v: %s", step.change, step.want, err, out)
			}
		}
		out, err = m.User(ctx, `docker rm -f asks && moss setup --uninstall --purge`)
		if err != nil {
			t.Error(err, out)
		}
	})
}
