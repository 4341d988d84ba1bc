package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

type stdioRig struct{ s *fake.Stdio }

func (r *stdioRig) Stdio() engine.Stdio       { return r.s }
func (r *stdioRig) Attacher() engine.Attacher { return r.s }
func (r *stdioRig) Restart(*testing.T)        { r.s = r.s.Restart() }

func (r *stdioRig) Process(_ *testing.T, id moss.StreamID, child moss.ChildStdio) porttest.StdioProcess {
	p := porttest.StdioProcess{Size: func() moss.TermSize { return r.s.Size(id) }, Close: child.Close}
	p.In, p.Out, p.Err = r.s.Process(id)
	return p
}

func TestStdioContract(t *testing.T) {
	porttest.Stdio(t, func(*testing.T) porttest.StdioRig { return &stdioRig{fake.NewStdio(nil)} })
}
