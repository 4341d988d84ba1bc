// Package plugins finds plugins of docker's plugin protocol v1 and calls them.
// A plugin is a server of its own that answers POST /KIND.METHOD with JSON, at a
// socket in a directory of sockets, or at the address in a .spec or .json file.
// Which plugins there are is looked up whenever one is asked for; nothing needs
// to be registered, and a plugin may come, go and change at any time. What a
// plugin answers is believed to no more than the words of the protocol: it may
// hang, die, lie and talk without end.
package plugins

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Options say where plugins are looked for, the first place first.
type Options struct {
	Sockets []string // directories with NAME.sock or NAME/NAME.sock
	Specs   []string // directories with NAME.spec, NAME.json, or these in NAME/
	Log     *slog.Logger
}

// Registry is the plugins of one engine. Its methods may be called from several
// goroutines.
type Registry struct {
	o Options

	mu    sync.Mutex // for a look or a change
	known map[string]*plugin
}

// New makes a registry; nothing is looked for yet.
func New(o Options) *Registry {
	return &Registry{o: o, known: make(map[string]*plugin)}
}

const (
	usualTimeout    = 30 * time.Second
	activateTimeout = 10 * time.Second
	firstWait       = 100 * time.Millisecond
	longestWait     = 5 * time.Second
)

// plugin is what is known of one: it is thrown away when its place changes.
type plugin struct {
	name   string
	place  place
	client *client

	turn    chan struct{} // holds the one who activates
	kinds   []string      // guarded by turn and, once active is closed, for good
	active  chan struct{} // closed once activated
	refused error         // why the last activation failed; guarded by turn
	until   time.Time     // activation is not tried before, but for those with patience
}

// get finds a plugin's place, and what is known of the plugin there.
func (r *Registry) get(name string) (*plugin, error) {
	at, err := r.find(name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.known[name]; p != nil && p.place == at {
		return p, nil
	}
	c, err := newClient(name, at)
	if err != nil {
		return nil, err
	}
	p := &plugin{name: name, place: at, client: c, turn: make(chan struct{}, 1), active: make(chan struct{})}
	r.known[name] = p
	return p, nil
}

// forget lets the next call activate anew: the plugin's process is another one.
func (r *Registry) forget(p *plugin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[p.name] == p {
		delete(r.known, p.name)
	}
}

// manifest is a plugin's answer to Plugin.Activate.
type manifest struct{ Implements []string }

// activate asks, once, what the plugin implements.
func (p *plugin) activate(ctx context.Context) ([]string, error) {
	select {
	case <-p.active:
		return p.kinds, nil
	default:
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, unreachable(p.name, "Plugin.Activate", ctx.Err())
	}
	defer func() { <-p.turn }()
	select {
	case <-p.active:
		return p.kinds, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, activateTimeout)
	defer cancel()
	var m manifest
	if err := p.client.call(ctx, "Plugin.Activate", nil, &m); err != nil {
		return nil, err
	}
	p.kinds = m.Implements
	close(p.active)
	return p.kinds, nil
}

// prepare activates a plugin that must implement kind.
func (r *Registry) prepare(ctx context.Context, name, kind string) (*plugin, error) {
	p, err := r.get(name)
	if err != nil {
		return nil, err
	}
	kinds, err := p.activate(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(kinds, kind) {
		r.forget(p) // it may be another one tomorrow
		return nil, moss.Errorf(moss.Invalid, "Plugin does not implement the requested driver: plugin=%q, requested implementation=%q", name, kind)
	}
	return p, nil
}

// Call calls a method of a plugin that implements a kind, after activating it
// where that is not done. Only what cannot have reached the plugin is tried
// again. Errors: NotFound where there is no such plugin; Unavailable where it
// cannot be reached or answers nonsense; NotImplemented where it does not know
// the method; Internal with the plugin's own words.
func (r *Registry) Call(ctx context.Context, c moss.PluginCall) error {
	return r.retry(ctx, c, func(ctx context.Context) error {
		p, err := r.prepare(ctx, c.Plugin, c.Kind)
		if err != nil {
			return err
		}
		if err := p.client.call(ctx, c.Method, c.In, c.Out); err != nil {
			if notSent(err) {
				r.forget(p)
			}
			return err
		}
		return nil
	})
}

// Check says whether a plugin is there and implements a kind. Errors are Call's.
func (r *Registry) Check(ctx context.Context, name, kind string) error {
	return r.retry(ctx, moss.PluginCall{Plugin: name, Kind: kind}, func(ctx context.Context) error {
		_, err := r.prepare(ctx, name, kind)
		return err
	})
}

// retry tries until an attempt succeeds, fails for good, or patience ends.
func (r *Registry) retry(ctx context.Context, c moss.PluginCall, try func(context.Context) error) error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = usualTimeout
	}
	giveUp := time.Now().Add(c.Patience)
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		attempt, cancel := context.WithTimeout(ctx, timeout)
		err := try(attempt)
		cancel()
		again := err != nil && (notSent(err) || moss.ClassOf(err) == moss.NotFound)
		if !again || ctx.Err() != nil || time.Now().Add(wait).After(giveUp) {
			return err
		}
		r.o.Log.Debug("a plugin is not there; it is tried again", "plugin", c.Plugin, "method", c.Method, "wait", wait, "error", err)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// Having names the plugins that implement a kind, in order, and says of those
// that cannot tell why. It takes no longer than ctx and the limit of an
// activation; what has failed lately is not asked again.
func (r *Registry) Having(ctx context.Context, kind string) (names []string, dead map[string]error) {
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all = r.Names()
	)
	dead = make(map[string]error)
	for _, name := range all {
		wg.Go(func() {
			kinds, err := r.kinds(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				dead[name] = err
			case slices.Contains(kinds, kind):
				names = append(names, name)
			}
		})
	}
	wg.Wait()
	slices.Sort(names)
	r.prune(all)
	return names, dead
}

// calm is how long a plugin that hangs is not asked again just to know it.
const calm = 10 * time.Second

func (r *Registry) kinds(ctx context.Context, name string) ([]string, error) {
	p, err := r.get(name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	refused, until := p.refused, p.until
	r.mu.Unlock()
	if time.Now().Before(until) {
		return nil, refused
	}
	kinds, err := p.activate(ctx)
	if err != nil && !notSent(err) { // what is not there fails at once
		r.mu.Lock()
		p.refused, p.until = err, time.Now().Add(calm)
		r.mu.Unlock()
	}
	return kinds, err
}

// prune forgets what is there no more.
func (r *Registry) prune(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.known, func(name string, _ *plugin) bool { return !slices.Contains(names, name) })
}

// errNotSent marks a call that cannot have reached the plugin.
type errNotSent struct{ error }

func (e errNotSent) Unwrap() error { return e.error }

func notSent(err error) bool {
	_, ok := errors.AsType[errNotSent](err)
	return ok
}

func unreachable(name, method string, err error) error {
	return moss.Errorf(moss.Unavailable, "plugin %q does not answer %s: %w", name, method, err)
}
