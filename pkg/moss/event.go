package moss

import "time"

// EventType is the kind of thing an event is about.
type EventType string

// The event types.
const (
	ContainerEvent EventType = "container"
	ImageEvent     EventType = "image"
	NetworkEvent   EventType = "network"
	DaemonEvent    EventType = "daemon"
)

// Event is something that happened, in docker's words (action "start", "die", …).
type Event struct {
	Type       EventType
	Action     string
	ActorID    string
	Attributes map[string]string
	Time       time.Time
}
