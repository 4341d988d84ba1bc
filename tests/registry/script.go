package registry

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Commands are for testscript:
//
//	registry NAME [tls|mtls] [at=ADDRESS] [USER:PASSWORD]
//	                                      starts one that lives as long as the script: $NAME is its host:port, $NAME_PROXY
//	                                      that of the proxy in front, $NAME_CA the certificate of its CA; mtls asks clients for
//	                                      one as well: $NAME_CERT and $NAME_KEY
//	image NAME REPO:TAG [docker] [zstd|plain] [index] [foreign] [layers=N] [size=BYTES] [files=N] [env=K=V]
//	                                      makes an image there; $DIGEST is its digest, $PART that of an index's part for this
//	                                      machine, $LAYER that of its first layer. The first layer of a foreign one is at $NAME
//	                                      in another repository
//	fault NAME PATH [METHOD] [times=N] [after=N] [status=N] [retry=SECONDS] [drop=BYTES] [truncate=BYTES] [corrupt=PLACE] [delay=DURATION] [hold=1] [rate=BYTES]
//	                                      makes the proxy break requests whose path has PATH ("*": all); those
//	                                      that it holds go on when NAME heals
//	heal NAME                             ends that, and forgets what the proxy saw
//	[!] asked NAME METHOD PATH [N]        the proxy saw such requests, N of them
//	sent NAME PATH BYTES                  it answered those with at most so many bytes together
func Commands() map[string]func(*testscript.TestScript, bool, []string) {
	c := &commands{all: map[string]running{}, held: map[*Proxy][]chan struct{}{}}
	return map[string]func(*testscript.TestScript, bool, []string){
		"registry": c.registry, "image": c.image, "fault": c.fault, "heal": c.heal, "asked": c.asked, "sent": c.sent,
	}
}

type commands struct {
	mu   sync.Mutex
	all  map[string]running // by the script's directory and the name
	held map[*Proxy][]chan struct{}
}

type running struct {
	*Registry
	proxy *Proxy
}

func (c *commands) get(ts *testscript.TestScript, neg bool, args []string, least int) running {
	if neg || len(args) < least {
		ts.Fatalf("wrong use: see Commands in tests/registry")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.all[ts.Getenv("WORK")+"/"+args[0]]
	if !ok {
		ts.Fatalf("there is no registry %s", args[0])
	}
	return r
}

func (c *commands) registry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: registry NAME [tls|mtls] [at=ADDRESS] [USER:PASSWORD]")
	}
	o := Options{Dir: filepath.Join(ts.Getenv("WORK"), ".registry-"+args[0])}
	for _, a := range args[1:] {
		if name, pass, ok := strings.Cut(a, ":"); ok {
			o.Users = map[string]string{name: pass}
		} else if addr, ok := strings.CutPrefix(a, "at="); ok {
			o.Addr = addr
		} else if a == "tls" || a == "mtls" {
			o.TLS, o.ClientTLS = true, a == "mtls"
		} else {
			ts.Fatalf("registry has no %q", a)
		}
	}
	ts.Check(os.MkdirAll(o.Dir, 0o700))
	r, err := Start(o)
	ts.Check(err)
	ts.Defer(r.Stop)
	p, err := StartProxy(r)
	ts.Check(err)
	ts.Defer(p.Stop)
	ts.Setenv(args[0], r.Host)
	ts.Setenv(args[0]+"_PROXY", p.Host)
	if r.CA != nil {
		ts.Setenv(args[0]+"_CA", r.CA.Cert)
	}
	if o.ClientTLS {
		cert, key, err := r.CA.Issue("user")
		ts.Check(err)
		ts.Setenv(args[0]+"_CERT", cert)
		ts.Setenv(args[0]+"_KEY", key)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[ts.Getenv("WORK")+"/"+args[0]] = running{r, p}
}

func (c *commands) image(ts *testscript.TestScript, neg bool, args []string) {
	r := c.get(ts, neg, args, 2)
	repo, tag, _ := strings.Cut(args[1], ":")
	im := Image{Layers: make([]Layer, 1), Cmd: []string{"/bin/true"}}
	layer, index, foreign := Layer{Size: 1 << 16}, false, false
	for _, a := range args[2:] {
		key, value, _ := strings.Cut(a, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "docker":
			im.Docker = true
		case "zstd":
			layer.Zstd = true
		case "plain":
			layer.Plain = true
		case "index":
			index = true
		case "foreign":
			foreign = true
		case "env":
			im.Env = append(im.Env, value)
		case "layers":
			im.Layers = make([]Layer, n)
		case "size":
			layer.Size = n
		case "files":
			layer.Files = n
		default:
			ts.Fatalf("image has no %q", a)
		}
	}
	for i := range im.Layers {
		im.Layers[i] = layer
		im.Layers[i].Seed = uint64(i + 1)
	}
	if foreign {
		ts.Check(r.elsewhere(&im.Layers[0]))
	}
	var m Made
	var err error
	if index {
		other := im
		other.Platform = "linux/riscv64"
		m, err = r.Remote().PutIndex(repo, tag, true, im, other)
	} else {
		m, err = r.Remote().Put(repo, tag, im)
	}
	ts.Check(err)
	ts.Setenv("DIGEST", m.Digest.String())
	one := m
	if index {
		one = m.Parts[0]
	}
	ts.Setenv("PART", one.Digest.String())
	ts.Setenv("LAYER", one.Layers[0].Digest.String())
}

// elsewhere makes a layer foreign: it is in another repository.
func (r running) elsewhere(l *Layer) error {
	packed, err := l.Packed()
	if err != nil {
		return err
	}
	desc, err := r.Remote().Blob("elsewhere", "", packed)
	l.URL = r.Remote().URL + "/v2/elsewhere/blobs/" + desc.Digest.String()
	return err
}

func (c *commands) fault(ts *testscript.TestScript, neg bool, args []string) {
	r := c.get(ts, neg, args, 2)
	f := Fault{Path: args[1]}
	if f.Path == "*" {
		f.Path = ""
	}
	for _, a := range args[2:] {
		key, value, ok := strings.Cut(a, "=")
		if !ok {
			f.Method = a
			continue
		}
		if key == "delay" {
			d, err := time.ParseDuration(value)
			ts.Check(err)
			f.Delay = d
			continue
		}
		n, err := strconv.Atoi(value)
		ts.Check(err)
		switch key {
		case "times":
			f.Times = n
		case "after":
			f.After = n
		case "status":
			f.Status = n
		case "retry":
			f.RetryAfter = value
		case "drop":
			f.DropAfter = int64(n)
		case "truncate":
			f.Truncate = int64(n)
		case "corrupt":
			f.Corrupt = int64(n)
		case "hold":
			f.Hold = c.hold(r.proxy)
		case "rate":
			f.Rate = n
		default:
			ts.Fatalf("fault has no %q", a)
		}
	}
	r.proxy.Fault(f)
}

func (c *commands) heal(ts *testscript.TestScript, neg bool, args []string) {
	p := c.get(ts, neg, args, 1).proxy
	p.Heal()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.held[p] {
		close(ch)
	}
	delete(c.held, p)
}

// hold is closed when the proxy is healed.
func (c *commands) hold(p *Proxy) chan struct{} {
	ch := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[p] = append(c.held[p], ch)
	return ch
}

func (c *commands) asked(ts *testscript.TestScript, neg bool, args []string) {
	r := c.get(ts, false, args, 3)
	n := r.proxy.Count(args[1], args[2])
	good := n > 0
	if len(args) > 3 {
		want, err := strconv.Atoi(args[3])
		ts.Check(err)
		good = n == want
	}
	if good == neg {
		ts.Fatalf("%s %s was asked for %d times", args[1], args[2], n)
	}
}

func (c *commands) sent(ts *testscript.TestScript, neg bool, args []string) {
	r := c.get(ts, neg, args, 3)
	most, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	sum := int64(0)
	for _, q := range r.proxy.Seen("", args[1]) {
		sum += q.Sent
	}
	if sum == 0 || sum > most {
		ts.Fatalf("%s: %d bytes were sent", args[1], sum)
	}
}
