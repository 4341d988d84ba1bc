package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestLogsContract(t *testing.T) {
	porttest.Logs(t, func(t *testing.T) (engine.Logs, string) { return fake.NewLogs(), t.TempDir() },
		moss.LogConfig{Driver: "json-file"})
}
