// Command moss is the command line of the engine: docker's subcommands, flags
// and output, over the Docker Engine API, and those that set moss up. It
// starts in a few milliseconds: whatever is heavy lives in mossd.
//
// The debug settings keep the Go runtime from looking for the processor limit of
// its cgroup again and again, which matters to nothing here. Once, at the start,
// it reads the mount table and the cgroup's files all the same (Go 1.26).
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	code := run(ctx, os.Args, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Getenv)
	if code == exitInterrupted && ctx.Err() != nil {
		code = 128 + int(syscall.SIGTERM)
	}
	stop()
	os.Exit(code)
}
