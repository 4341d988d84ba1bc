package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
)

func TestLabels(t *testing.T) { porttest.Labels(t, fake.NewLabels()) }
