package e2e

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// A shell in a browser: attach through a web socket, with a client that shares
// no code with the engine's side.
func TestWebSocket(t *testing.T) {
	before := stored(t)
	must(t, "docker", "load", "-q", "-i", suite.top+"/busybox.tar")
	for name, c := range map[string]struct {
		flags []string
		typed string
		want  string
	}{
		"pipes":    {[]string{"-i"}, "echo $((6*7)); sleep 0.1; echo err >&2; exit 3\n", "42\nerr\n"},
		"terminal": {[]string{"-it"}, "echo $((6*7)); exit 3\r", "\r\n42\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			id := must(t, slices.Concat([]string{"docker", "create"}, c.flags, []string{"busybox", "sh"})...)
			defer must(t, "docker", "rm", "-f", id)
			config, err := websocket.NewConfig("ws://moss/v1.43/containers/"+id+"/attach/ws?stream=1&stdin=1&stdout=1&stderr=1", "http://localhost")
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("unix", suite.sock)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ws, err := websocket.NewClient(config, conn)
			if err != nil {
				t.Fatal(err)
			}
			must(t, "docker", "start", id)
			if _, err := ws.Write([]byte(c.typed)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(ws)
			if err != nil || !strings.Contains(string(got), c.want) {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
			if code := must(t, "docker", "wait", id); code != "3" {
				t.Errorf("exit code %s", code)
			}
		})
	}
	must(t, "docker", "rmi", "busybox")
	emptied(t, before)
}
