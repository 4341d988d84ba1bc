package logs_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/logs"
)

func TestContract(t *testing.T) {
	porttest.Logs(t, func(t *testing.T) (engine.Logs, string) { return logs.New(), t.TempDir() })
}
