// Package logbridge sends what libraries log through logrus to slog, so that
// the daemon has one log. It is the one place of ours that knows logrus.
package logbridge

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
)

// Install takes the standard logger of logrus over for the life of the
// process. Libraries find "info" what an engine's user does not need to know:
// their info and below is debug for us.
func Install(ctx context.Context, log *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
	logrus.AddHook(hook{log})
	level := logrus.WarnLevel
	if log.Enabled(ctx, slog.LevelDebug) {
		level = logrus.DebugLevel
	}
	logrus.SetLevel(level)
}

type hook struct{ log *slog.Logger }

func (hook) Levels() []logrus.Level { return logrus.AllLevels }

func (h hook) Fire(e *logrus.Entry) error {
	attrs := make([]slog.Attr, 0, len(e.Data))
	for k, v := range e.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	h.log.LogAttrs(ctx, level(e.Level), e.Message, attrs...) //nolint:sloglint // passes a library's message on
	return nil
}

func level(l logrus.Level) slog.Level {
	switch l {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		return slog.LevelError
	case logrus.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}
