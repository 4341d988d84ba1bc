package local

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/rights"
)

// op is what a client asks for.
type op string

const (
	opStart   op = "start"   // Spec; three files at most, for the streams that Streams names
	opKill    op = "kill"    // ID, Signal
	opCollect op = "collect" // ID
	opStop    op = "stop"    // ID: as whoever stops all does, with the unit's own signal and time
	opFreeze  op = "freeze"  // ID
	opThaw    op = "thaw"    // ID
	opHold    op = "hold"    // Hold; the files listen at the container's ports
	opRelease op = "release" // ID
	opHeld    op = "held"
	opList    op = "list"
	opWatch   op = "watch"
	opState   op = "state"
)

// request is a call.
type request struct {
	Op      op
	ID      moss.ContainerID `json:",omitempty"`
	Signal  int              `json:",omitempty"`
	Spec    *spec            `json:",omitempty"`
	Streams []int            `json:",omitempty"` // which of 0, 1, 2 the files are
	Hold    *hold            `json:",omitempty"`
}

// check refuses what makes no sense, whoever has sent it with that many files:
// an id becomes part of a cgroup's name, and the file of the process number is deleted.
func (r request) check(files int) error {
	id := r.ID
	switch r.Op {
	case opStart:
		if r.Spec == nil || len(r.Spec.Args) == 0 || len(r.Streams) != files || !filepath.IsAbs(r.Spec.PIDFile) {
			return moss.Errorf(moss.Invalid, "the request makes no sense")
		}
		for i, n := range r.Streams {
			if n < 0 || n > 2 || slices.Contains(r.Streams[:i], n) {
				return moss.Errorf(moss.Invalid, "there is no stream %d, or it is there twice", n)
			}
		}
		id = r.Spec.ID
	case opHold:
		if r.Hold == nil || len(r.Hold.Args) == 0 || files == 0 {
			return moss.Errorf(moss.Invalid, "the request makes no sense")
		}
		id = r.Hold.ID
	case opKill:
		if r.Signal < 0 || r.Signal > 64 {
			return moss.Errorf(moss.Invalid, "there is no signal %d", r.Signal)
		}
	case opCollect, opStop, opFreeze, opThaw, opRelease:
	case opHeld, opList, opWatch, opState:
		return nil
	default:
		return moss.Errorf(moss.NotImplemented, "the manager of the containers is older than the daemon: it does not know %.40q; start it anew", r.Op)
	}
	if len(id) < 12 || len(id) > 64 || strings.Trim(string(id), "0123456789abcdef") != "" {
		return moss.Errorf(moss.Invalid, "no container has the id %.80q", id)
	}
	return nil
}

// hold is a program that is started with sockets when somebody connects to one.
type hold struct {
	ID   moss.ContainerID
	Args []string
	Env  []string
}

// spec is what the server needs of a moss.UnitSpec.
type spec struct {
	ID          moss.ContainerID
	Args        []string
	Env         []string
	PIDFile     string
	OomScoreAdj int
	StopSignal  int
	StopTimeout time.Duration
}

// answer ends a call, or is one of many on a watch.
type answer struct {
	Class     moss.Class        `json:",omitempty"`
	Error     string            `json:",omitempty"`
	Unit      *moss.UnitStatus  `json:",omitempty"`
	Seq       uint64            `json:",omitempty"` // of the last change that this and what came before tell
	More      bool              `json:",omitempty"` // the rest of a list follows
	List      []moss.UnitStatus `json:",omitempty"`
	GoingDown bool              `json:",omitempty"`
	NoGroups  string            `json:",omitempty"` // why units have no cgroups
	Held      []string          `json:",omitempty"` // short ids
}

func (a answer) err() error {
	if a.Error == "" {
		return nil
	}
	return moss.Errorf(a.Class, "%s", a.Error)
}

const (
	// mostMessage is less than what a socket takes at once by default.
	mostMessage = 128 << 10
	// listChunk statuses fit into a message.
	listChunk = 200
	// mostFiles can go with a message, see SCM_MAX_FD in unix(7).
	mostFiles = 250
)

func send(c *net.UnixConn, m any, files ...*os.File) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > mostMessage {
		return moss.Errorf(moss.Invalid, "a message of %d bytes is too long", len(text))
	}
	fds := make([]int, 0, len(files))
	for _, f := range files {
		raw, err := f.SyscallConn() // not File.Fd, which would make the file blocking
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
		if err != nil {
			return err
		}
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(text, oob, nil)
	return err
}

func receive(c *net.UnixConn, m any) (files []*os.File, err error) {
	text, oob := make([]byte, mostMessage+1), make([]byte, unix.CmsgSpace(4*mostFiles))
	n, oobn, _, _, err := c.ReadMsgUnix(text, oob)
	if err != nil {
		return nil, err
	}
	files, err = received(oob[:oobn])
	switch {
	case err != nil:
	case n == 0 && len(files) == 0:
		err = io.EOF
	case n > mostMessage:
		err = errors.New("a message is too long")
	default:
		err = json.Unmarshal(text[:n], m)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

// received are the files that came with a message.
func received(oob []byte) (files []*os.File, err error) {
	fds, err := rights.Received(oob)
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "received"))
	}
	return files, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // a duplicate
	}
}
