package stdio_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/stdio"
)

type rig struct{ h *stdio.Hub }

func (r *rig) Stdio() engine.Stdio       { return r.h }
func (r *rig) Attacher() engine.Attacher { return r.h }
func (r *rig) Restart(t *testing.T)      { r.h = stdio.Kill(t, r.h) }

func (r *rig) Process(t *testing.T, _ moss.StreamID, child moss.ChildStdio) porttest.StdioProcess {
	if child.ConsoleSocket == "" {
		return porttest.StdioProcess{In: child.Stdin, Out: child.Stdout, Err: child.Stderr, Close: child.Close}
	}
	slave := stdio.SendTerminal(t, child.ConsoleSocket)
	return porttest.StdioProcess{
		In: slave, Out: slave, Err: slave, Close: func() { _ = slave.Close() },
		Size: func() moss.TermSize {
			ws, err := unix.IoctlGetWinsize(int(slave.Fd()), unix.TIOCGWINSZ)
			if err != nil {
				t.Fatal(err)
			}
			return moss.TermSize{Rows: ws.Row, Cols: ws.Col}
		},
	}
}

func TestContract(t *testing.T) {
	porttest.Stdio(t, func(t *testing.T) porttest.StdioRig { return &rig{stdio.NewTestHub(t)} })
}
