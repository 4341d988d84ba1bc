// Command mossd is the daemon: the engine and the Docker Engine API, run by
// moss.service inside the namespaces that moss-rootless.service holds. As
// `mossd rootless` it is that holder.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/moss-containers/moss/pkg/storage"
)

func main() {
	// A child that unpacks layers is this program under another name.
	if storage.Init() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args, os.Getenv)
	stop()
	if errors.Is(err, errIdle) {
		os.Exit(idleStatus)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mossd: "+err.Error())
		if e, ok := errors.AsType[*notRun](err); ok {
			os.Exit(e.code)
		}
		os.Exit(1)
	}
}
