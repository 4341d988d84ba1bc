package logs_test

import (
	"io"
	"net"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/logs"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestContract(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	sinkhole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sinkhole.Close()
	go func() {
		for {
			conn, err := sinkhole.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	at := "udp://" + server.LocalAddr().String()
	porttest.Logs(t, func(t *testing.T) (engine.Logs, string) { return logs.New(), t.TempDir() },
		moss.LogConfig{Driver: "json-file"},
		moss.LogConfig{Driver: "json-file", Options: map[string]string{"env": "A"}},
		moss.LogConfig{Driver: "local"},
		moss.LogConfig{Driver: "syslog", Options: map[string]string{"syslog-address": at}},
		moss.LogConfig{Driver: "gelf", Options: map[string]string{"gelf-address": at}},
		moss.LogConfig{Driver: "fluentd", Options: map[string]string{"fluentd-async": "true", "fluentd-address": sinkhole.Addr().String()}})
}
