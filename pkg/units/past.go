package units

import (
	"context"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// What the manager writes, see sd-messages.h.
const (
	messageOOM     = "fe6faa94e7774663a0da52717891d8ef" // SD_MESSAGE_UNIT_OUT_OF_MEMORY
	messageStopped = "9d1aaa27d60140bd96365438aad20286" // SD_MESSAGE_UNIT_STOPPED
)

// Past tells what the journal has of a unit's run that started then. It is how a
// daemon learns what happened while none ran: with OOMPolicy=continue the manager's
// own properties have a kill for want of memory as any SIGKILL, and of a unit that
// it was told to stop, and has forgotten, it has nothing.
func (m *Manager) Past(ctx context.Context, id moss.ContainerID, since time.Time) (moss.UnitPast, error) {
	var p moss.UnitPast
	if m.o.Journal == nil || ctx.Err() != nil {
		return p, ctx.Err()
	}
	err := m.o.Journal("USER_UNIT", m.UnitName(id), since, func(at time.Time, fields map[string]string) {
		switch fields["MESSAGE_ID"] {
		case messageOOM:
			p.OOMKills, p.OOMAt = p.OOMKills+1, at
		case messageStopped:
			if fields["JOB_TYPE"] == "stop" && fields["JOB_RESULT"] == "done" {
				p.StoppedAt = at
			}
		}
	})
	if err != nil {
		return moss.UnitPast{}, moss.Errorf(moss.Unavailable, "cannot ask the journal of unit %s: %w", m.UnitName(id), err)
	}
	return p, nil
}
