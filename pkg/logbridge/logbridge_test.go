package logbridge

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestInstall(t *testing.T) {
	var out bytes.Buffer
	Install(t.Context(), slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	logrus.WithField("layer", "abc").Warn("found")
	logrus.Info("chatter")
	got := out.String()
	if !strings.Contains(got, "level=WARN msg=found layer=abc") || !strings.Contains(got, "level=DEBUG msg=chatter") {
		t.Errorf("log is %q", got)
	}
	out.Reset()
	Install(t.Context(), slog.New(slog.NewTextHandler(&out, nil)))
	logrus.Info("chatter")
	logrus.Error("once")
	if got := out.String(); strings.Contains(got, "chatter") || strings.Count(got, "once") != 1 {
		t.Errorf("log is %q", got)
	}
}
