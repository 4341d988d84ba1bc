package logs_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/logs"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestContract(t *testing.T) {
	porttest.Logs(t, func(t *testing.T) (engine.Logs, string) { return logs.New(), t.TempDir() },
		moss.LogConfig{Driver: "json-file"},
		moss.LogConfig{Driver: "json-file", Options: map[string]string{"env": "A"}},
		moss.LogConfig{Driver: "local"})
}
