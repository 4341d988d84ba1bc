package engine

import (
	"context"
	"errors"
	"slices"
)

// undo remembers how to take steps back; run unwinds them in reverse and
// joins what went wrong.
type undo []func(context.Context) error

func (u *undo) add(fn func(context.Context) error) { *u = append(*u, fn) }

func (u *undo) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var errs []error
	for _, fn := range slices.Backward(*u) {
		errs = append(errs, fn(ctx))
	}
	*u = nil
	return errors.Join(errs...)
}
