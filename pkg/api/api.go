package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// MaxVersion is the newest API version spoken: that of the moby/api module.
// MinVersion is the oldest, as docker's daemons have it.
const (
	MaxVersion = "1.56"
	MinVersion = "1.24"
)

// maxJSON bounds the body of a request that is decoded as JSON, in bytes.
const maxJSON = 4 << 20

// Options are what the API is made of. Every service is needed.
type Options struct {
	Containers Containers
	Upkeep     ContainerUpkeep
	Links      Linker
	Views      ContainerViews
	Use        ContainerUse
	Signals    ContainerSignals
	Execs      Execs
	Images     Images
	Archives   ImageArchives
	Transfers  ImageTransfers
	Registries Registries
	Files      ContainerFiles
	Copies     ContainerCopies
	Usage      Usage
	Networks   Networks
	Volumes    Volumes
	Secrets    Secrets
	System     System
	Plugins    Plugins // nil for none

	Log *slog.Logger // with its component attribute; nil means slog.Default()

	// Version, GitCommit and BuildTime (RFC 3339) are told by /version.
	Version   string
	GitCommit string
	BuildTime string

	// NoBridge says that there is no default network: who names none has none.
	NoBridge bool
	// NetworkOptions are, by driver, options of networks that are made without them.
	NetworkOptions map[string]map[string]string
	// SELinux says that the kernel has SELinux.
	SELinux bool
	// SELinuxEnabled says that every container gets labels.
	SELinuxEnabled bool
	// OpenFiles tells how many descriptors this process has; nil for nobody can tell.
	OpenFiles func() int
	// Debug answers below /debug/, for the owner at the unix socket; nil answers nothing.
	Debug http.Handler

	// Trace is told of every request and of its route, a path of the table or "":
	// the context that it returns goes with the request. The function is called at
	// its end, with the status, which is 0 where there was no answer. Nil follows nothing.
	Trace func(r *http.Request, route string) (context.Context, func(status int, err error))

	// Peers are the user ids, as this process sees them, that may use a unix
	// socket; nil means this process's own. In the user namespace the owner is 0.
	Peers []uint32
	// PeerUID is the uid of who connected, as the machine sees it: the machine's
	// root may use a unix socket too. Nil where nobody can tell.
	PeerUID func(ctx context.Context, c syscall.Conn) (uint32, error)
}

// Server answers the Engine API. It is an http.Handler; Serve adds the
// listener's part: peer credentials and an orderly end.
type Server struct {
	o    Options
	log  *slog.Logger
	now  func() time.Time
	base []route

	appArmor func() bool // the kernel confines by AppArmor profiles
	selinux  func() bool // and by SELinux labels
	ncpu     int

	closing context.Context // ends the streams
	close   context.CancelFunc

	mu       sync.Mutex
	hijacked map[net.Conn]struct{}  // guarded by mu
	servers  []*http.Server         // likewise: those that serve
	underWay map[*underWay]struct{} // likewise

	strangers map[uint32]struct{} // likewise: users who were refused

	streams sync.WaitGroup // the handlers that hold a hijacked connection

	rest rest
	rows rows

	requests  atomic.Uint64 // so far: what the log names each by
	listeners atomic.Int32  // clients that follow events

	driver      atomic.Pointer[string]   // the storage driver's name, once known
	authorizers atomic.Pointer[[]string] // the plugins that are asked
}

// New makes the API of the given services.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default().With("component", "api")
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Peers == nil {
		o.Peers = []uint32{uint32(os.Getuid())}
	}
	s := &Server{
		o: o, log: o.Log, now: time.Now,
		ncpu:     runtime.NumCPU(),
		appArmor: kernelAppArmor, selinux: func() bool { return o.SELinux },
		hijacked: map[net.Conn]struct{}{}, underWay: map[*underWay]struct{}{}, strangers: map[uint32]struct{}{}, base: routes(), rest: newRest(),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// request is one request on its way to a handler.
type request struct {
	*http.Request
	query
	version version
	name    string // the variable part of the path
}

// handler answers one request: it decodes, calls one service and encodes. An
// error returned after the answer has begun is only logged.
type handler func(*Server, *response, *request) error

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(hw http.ResponseWriter, hr *http.Request) {
	under, hr := s.begin(hw, hr)
	defer s.finish(under)
	w := &response{ResponseWriter: under}
	start := s.now()
	s.rest.begin()
	defer s.rest.end()
	id := s.requests.Add(1)
	log := func(level slog.Level, what string, more ...any) { //nolint:contextcheck // it is the request's
		s.log.Log(hr.Context(), level, what, append([]any{"id", id, "method", hr.Method, "path", hr.URL.Path}, more...)...) //nolint:sloglint // callers say what
	}
	var err error
	if s.o.Trace != nil {
		ctx, done := s.o.Trace(hr, s.routeOf(hr))
		hr = hr.WithContext(ctx) //nolint:contextcheck // as above
		defer func() { done(w.status, err) }()
	}
	s.headers(w)
	aborted := false
	defer func() { // the last: what is answered to a panic is an answer too
		if !aborted {
			w.authorization.finish()
		}
	}()
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				aborted = true
				panic(v)
			}
			err = moss.Errorf(moss.Internal, "a fault in moss: %v", v)
			log(slog.LevelError, "a handler panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			if !w.begun {
				writeError(w, err, version{})
			}
		}
		log(slog.LevelDebug, "request", "status", w.status, "took", s.now().Sub(start), "agent", hr.UserAgent())
	}()
	var v version
	v, err = s.serve(w, hr)
	err = s.why(err)
	endBody(w, hr)
	if err == nil {
		return
	}
	if statusOf(err) >= http.StatusInternalServerError && moss.ClassOf(err) == moss.Internal {
		log(slog.LevelError, "a request failed", "error", err)
	}
	if !w.begun {
		writeError(w, err, v)
	} else {
		log(slog.LevelDebug, "an answer was cut short", "error", err)
	}
}

// routeOf is the path of a request's route, "" where there is none.
func (s *Server) routeOf(r *http.Request) string {
	path, _ := splitVersion(r.URL.Path)
	if rt, _, ok := find(s.base, r.Method, path); ok {
		return rt.path
	}
	return ""
}

// bodyGrace is how long a client may go on sending what nobody needs.
const bodyGrace = time.Second

// endBody sets an end to all reading of an answered request's body: no answer
// goes out before, neither while someone still waits for the client to send nor
// while the server throws the rest away. The next request has its own time.
func endBody(w *response, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now().Add(bodyGrace)) // a test's has no connection
	}
}

func (s *Server) headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Api-Version", MaxVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", runtime.GOOS)
	h.Set("Server", "moss/"+s.o.Version+" ("+runtime.GOOS+")")
}

func (s *Server) serve(w *response, r *http.Request) (version, error) {
	if err := s.allowed(r.Context()); err != nil {
		return version{}, err
	}
	if !reloads(r) {
		var err error
		if r, err = s.authorize(w, r); err != nil {
			return version{}, err
		}
	}
	path, asked := splitVersion(r.URL.Path)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return version{}, nil
	}
	rt, name, ok := find(s.base, r.Method, path)
	if !ok {
		return version{}, moss.Errorf(moss.NotFound, "page not found")
	}
	v, err := checkVersion(asked)
	if err != nil {
		return v, err
	}
	if v.before(rt.min) {
		return v, moss.Errorf(moss.NotFound, "page not found: %s %s needs API version %s", r.Method, path, rt.min)
	}
	q, err := parseQuery(r)
	if err != nil {
		return v, err
	}
	return v, rt.handle(s, w, &request{Request: r, query: q, version: v, name: name})
}

// errClosing is why what was under way has ended; what is done by then is kept.
var errClosing = moss.Errorf(moss.Unavailable, "the engine is being stopped or restarted; ask again when it is back")

// why is the reason behind the error of a request that the server itself has ended.
func (s *Server) why(err error) error {
	if s.closing.Err() != nil && errors.Is(err, context.Canceled) {
		return errClosing
	}
	return err
}

// stream returns a context for an answer that goes on until someone ends it:
// the client by leaving, or the server when it closes.
func (s *Server) stream(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

// response remembers whether the answer has begun.
type response struct {
	http.ResponseWriter
	begun  bool
	status int

	authorization *authorization // nil where no plugin is asked
}

func (w *response) WriteHeader(status int) {
	if !w.begun {
		w.begun, w.status = true, status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// flush sends what is written, headers included.
func (w *response) flush() {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush() // a lost client shows at the next write
}

// containerRef is a container's name or id as docker's clients send it.
func (r *request) containerRef() string { return strings.TrimPrefix(r.name, "/") }
