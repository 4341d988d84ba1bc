package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Every format of the log has the steps of the start.
func TestStepsInTheLog(t *testing.T) {
	took := newSteps(time.Now())
	took.done("bus")
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, err := newLog(&out, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("ready", "steps", took)
		if !strings.Contains(out.String(), "bus ") {
			t.Errorf("%s: %s", format, &out)
		}
	}
}
