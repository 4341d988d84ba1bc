package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/pkg/units/local"
	"github.com/moss-containers/moss/rootless/holder"
	"github.com/moss-containers/moss/userns"
)

// guardedEnv is set in a service that has its guard.
const guardedEnv = "_MOSS_GUARDED"

func init() { runtime.LockOSThread() } // main's thread is its process's: see local.Guard

// service is `moss system service`: the manager of the containers where systemd's is not there.
func service(args []string) error {
	fs := flag.NewFlagSet(names.Rootless+" service", flag.ExitOnError)
	prefix := fs.String("prefix", "moss", "`name` of the engine")
	socket := fs.String("socket", "", "`path` of the API's socket")
	idle := fs.Duration("time", 0, "end when there was nothing to do for so long; 0 for never")
	debug := fs.Bool("debug", false, "log more")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := userns.CheckNotRoot(); err != nil {
		return err
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		return errors.New("XDG_RUNTIME_DIR is not set: name a directory of your own there, one that a reboot empties")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if os.Getenv(guardedEnv) == "" {
		code, err := local.Guard(append([]string{self, "service"}, args...), append(os.Environ(), guardedEnv+"=1"))
		if err == nil {
			os.Exit(code)
		}
		return err
	}
	os.Unsetenv(guardedEnv)
	run = filepath.Join(run, *prefix)
	if *socket == "" {
		*socket = filepath.Join(run, "moss.sock")
	}
	mossd := filepath.Join(filepath.Dir(self), names.Daemon)
	daemon := []string{mossd, "--prefix", *prefix}
	if *idle > 0 {
		daemon = append(daemon, "--idle-timeout", idle.String())
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	signal.Ignore(unix.SIGHUP) // the terminal may go
	log := holder.NewLog(os.Stderr, *debug)
	log.Info("the engine runs without systemd's user manager", "socket", *socket)
	begun := time.Now()
	err = local.Serve(ctx, local.Options{
		Run: run, Name: *prefix + ".socket", Socket: *socket, Holder: []string{mossd, "--prefix", *prefix, "rootless"},
		Daemon: daemon, Join: userns.JoinEnv + "=" + filepath.Join(run, "rootless"), Once: *idle > 0, Log: log,
	})
	log.Info("the engine has ended", "after", time.Since(begun).Round(time.Second))
	if err != nil {
		return fmt.Errorf("the engine cannot run: %w", err)
	}
	return nil
}
