// Command moss is the command line of the engine: docker's subcommands, flags
// and output, over the Docker Engine API, and those that set moss up. It
// starts in a few milliseconds: whatever is heavy lives in mossd.
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
	stop()
	os.Exit(code)
}
