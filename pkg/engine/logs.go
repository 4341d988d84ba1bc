package engine

import (
	"context"

	"github.com/moss-containers/moss/pkg/moss"
)

// Logs calls fn with the lines of a container's log that the query asks for.
func (s Views) Logs(ctx context.Context, ref string, q moss.LogQuery, fn func(moss.LogLine) error) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.Engine.Deps.Logs.Read(ctx, c.record(), q, fn)
}
