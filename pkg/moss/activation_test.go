package moss_test

import (
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestActivation(t *testing.T) {
	for _, test := range []struct {
		annotations map[string]string
		want        *moss.Activation
		invalid     bool
	}{
		{nil, nil, false},
		{map[string]string{"moss.activate": "false"}, nil, false},
		{map[string]string{"moss.activate": "true"}, &moss.Activation{}, false},
		{map[string]string{"moss.activate": "true", "moss.activate.idle": "90s"}, &moss.Activation{Idle: 90 * time.Second}, false},
		{map[string]string{"moss.activate": "maybe"}, nil, true},
		{map[string]string{"moss.activate.idle": "90s"}, nil, true},
		{map[string]string{"moss.activate": "true", "moss.activate.idle": "0"}, nil, true},
		{map[string]string{"moss.activate": "true", "moss.activate.idle": "soon"}, nil, true},
	} {
		got, err := moss.HostConfig{Annotations: test.annotations}.Activation()
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want || (moss.ClassOf(err) == moss.Invalid) != test.invalid {
			t.Errorf("%v: %v, %v", test.annotations, got, err)
		}
	}
}
