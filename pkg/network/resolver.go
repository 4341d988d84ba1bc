package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/moss-containers/moss/pkg/lately"
	"github.com/moss-containers/moss/pkg/moss"
)

// Sockets keeps sockets open while the daemon is away (pkg/sd).
type Sockets interface {
	Put(name string, files ...*os.File) error
	Remove(name string) error
	// Take and Listeners return what an earlier daemon has put: sockets that listen, and others.
	Take(name string) []*os.File
	Listeners(name string) []net.Listener
	Names() []string
}

const (
	resolverSuffix = ".dns" // of the names in Sockets, after the container's id
	answerTTL      = 600    // seconds, as docker's
	mostForwarded  = 1024   // queries of one container that are on their way at a time
)

// resolver answers the queries of one container, in whose namespace its sockets are.
type resolver struct {
	zone   *zone
	netns  string
	host   func() []netip.AddrPort // the host's servers, asked from the host's network
	slow   *slowness               // of the host's servers
	own    slowness                // of those the user named
	view   atomic.Pointer[resolverView]
	slots  chan struct{} // of queries over TCP
	turn   atomic.Uint32
	asked  *lately.Moment  // when, last, of all resolvers
	ctx    context.Context //nolint:containedctx // of the queries that are on their way; it ends with the resolver
	cancel context.CancelFunc
	udp    *datagrams
	tcp    *dns.Server
}

// resolverView is what a container sees; it changes as a whole.
type resolverView struct {
	networks []moss.NetworkID
	links    map[moss.NetworkID]map[string]string // names of the container's own, for names in the network
	servers  []netip.AddrPort                     // those the user wants, asked from the container
	forward  bool                                 // one of the networks has a way out
}

func viewOf(a moss.Attachment) *resolverView {
	v := &resolverView{}
	for _, i := range a.Interfaces() {
		v.networks = append(v.networks, i.Network)
		v.forward = v.forward || !i.Internal
		for _, l := range i.Links {
			if v.links == nil {
				v.links = map[moss.NetworkID]map[string]string{}
			}
			if v.links[i.Network] == nil {
				v.links[i.Network] = map[string]string{}
			}
			v.links[i.Network][strings.ToLower(l.Alias)] = l.Container
		}
	}
	for _, s := range a.Upstreams {
		v.servers = append(v.servers, netip.AddrPortFrom(s, 53))
	}
	return v
}

// resolves says whether a container has a resolver of its own: on the default
// bridge alone, names are not known, as in docker.
func resolves(a moss.Attachment) bool {
	return a.NetNS != "" && slices.ContainsFunc(a.Interfaces(), func(i moss.Interface) bool { return len(i.Names) > 0 })
}

// startResolver serves a container's namespace; sockets of an earlier daemon, with
// the queries that wait in them, are used again.
func (n *Networks) startResolver(id moss.ContainerID, a moss.Attachment) error {
	n.mu.Lock()
	r := n.resolvers[id]
	n.mu.Unlock()
	if r != nil {
		r.view.Store(viewOf(a))
		return nil
	}
	socks, err := n.resolverSockets(string(id)+resolverSuffix, moss.ResolverAddr, func() (resolverSockets, error) { return openResolver(a.NetNS) })
	if err != nil {
		return fmt.Errorf("cannot serve names: %w", err)
	}
	if r, err = n.serve(a.NetNS, viewOf(a), socks); err != nil {
		return err
	}
	n.mu.Lock()
	n.resolvers[id] = r
	n.mu.Unlock()
	return nil
}

// serve answers what comes by the sockets, which are closed where that fails.
func (n *Networks) serve(netns string, view *resolverView, socks resolverSockets) (*resolver, error) {
	r := &resolver{zone: &n.zone, netns: netns, host: n.upstreams.servers, slow: &n.upstreams.slow, asked: &n.asked, slots: make(chan struct{}, mostForwarded)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.view.Store(view)
	var err error
	if r.udp, err = newDatagrams(socks.udp, openPending(socks.pending)); err != nil {
		r.cancel()
		return nil, errors.Join(fmt.Errorf("cannot serve names: %w", err), socks.close())
	}
	r.tcp = &dns.Server{Listener: socks.tcp, Handler: r, MaxTCPQueries: -1}
	started := make(chan struct{})
	r.tcp.NotifyStartedFunc = func() { close(started) }
	failed := make(chan error, 1)
	go func() { failed <- r.tcp.ActivateAndServe() }()
	select {
	case <-started:
	case err := <-failed:
		r.cancel()
		return nil, errors.Join(fmt.Errorf("cannot serve names: %w", err), socks.close())
	}
	go r.udp.serve(r)
	return r, nil
}

// close ends the resolver, also where the caller's context is over; the stored sockets stay.
func (r *resolver) close() error {
	r.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return errors.Join(r.udp.stop(), r.tcp.ShutdownContext(ctx))
}

func (n *Networks) stopResolver(id moss.ContainerID) error {
	n.mu.Lock()
	r := n.resolvers[id]
	delete(n.resolvers, id)
	n.mu.Unlock()
	if r == nil {
		return nil
	}
	err := r.close()
	if n.cfg.Sockets != nil {
		err = errors.Join(err, n.cfg.Sockets.Remove(string(id)+resolverSuffix))
	}
	return err
}

func (n *Networks) closeResolvers() error {
	n.mu.Lock()
	all := n.resolvers
	n.resolvers = map[moss.ContainerID]*resolver{}
	n.mu.Unlock()
	errs := []error{n.closeStandIn()}
	for _, r := range all {
		errs = append(errs, r.close())
	}
	return errors.Join(errs...)
}

// noted remembers when a query came or was answered.
func (r *resolver) noted() {
	if r.asked != nil {
		r.asked.Now()
	}
}

// ServeDNS answers one query over TCP.
func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	r.noted()
	answer := r.local(q)
	if answer == nil {
		select {
		case r.slots <- struct{}{}:
			answer = r.elsewhere("tcp", q)
			<-r.slots
		default:
			answer = refuse(q)
		}
	}
	_ = w.WriteMsg(answer) // who asked may be gone
}

// local answers from the zone, or not at all.
func (r *resolver) local(q *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	if len(q.Question) != 1 {
		return reply.SetRcode(q, dns.RcodeFormatError)
	}
	ask := q.Question[0]
	if ask.Qclass != dns.ClassINET {
		return nil
	}
	view := r.view.Load()
	reply.SetReply(q)
	reply.RecursionAvailable = true
	head := dns.RR_Header{Name: ask.Name, Rrtype: ask.Qtype, Class: dns.ClassINET, Ttl: answerTTL}
	if ask.Qtype == dns.TypePTR {
		addr, ok := addrOfReverse(ask.Name)
		if !ok {
			return nil
		}
		name := r.zone.nameOf(view.networks, addr)
		if name == "" {
			return nil
		}
		reply.Answer = append(reply.Answer, &dns.PTR{Hdr: head, Ptr: dns.Fqdn(name)})
		return reply
	}
	hosts := view.lookup(r.zone, ask.Name)
	if len(hosts) == 0 {
		return nil
	}
	// Whom a client takes first changes with each query.
	first := int(r.turn.Add(1) % uint32(len(hosts)))
	for i := range hosts {
		h := hosts[(first+i)%len(hosts)]
		switch {
		case ask.Qtype == dns.TypeA && h.v4.IsValid():
			reply.Answer = append(reply.Answer, &dns.A{Hdr: head, A: h.v4.AsSlice()})
		case ask.Qtype == dns.TypeAAAA && h.v6.IsValid():
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: head, AAAA: h.v6.AsSlice()})
		default: // the name is there, and has nothing of that type
		}
	}
	return reply
}

// lookup finds who has a name: in a network where it is a link, only who that leads to.
func (v *resolverView) lookup(z *zone, name string) []zoneHost {
	alias := strings.ToLower(strings.TrimSuffix(name, "."))
	rest := v.networks
	for _, id := range v.networks {
		to, ok := v.links[id][alias]
		if !ok {
			continue
		}
		if found := z.lookup([]moss.NetworkID{id}, to); len(found) > 0 {
			return found
		}
		rest = slices.DeleteFunc(slices.Clone(rest), func(n moss.NetworkID) bool { return n == id })
	}
	return z.lookup(rest, name)
}

// linksIn are the links that are asked for in a network.
func linksIn(want moss.Endpoint) ([]moss.Link, error) {
	var links []moss.Link
	for _, s := range want.Links {
		l, err := moss.ParseLink(s)
		if err != nil {
			return nil, err
		}
		links = append(links, l)
	}
	return links, nil
}

// addrOfReverse is the address in a name of in-addr.arpa or ip6.arpa.
func addrOfReverse(name string) (netip.Addr, bool) {
	name = strings.ToLower(dns.Fqdn(name))
	if four, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(four, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	six, ok := strings.CutSuffix(name, ".ip6.arpa.")
	digits := strings.Split(six, ".")
	if !ok || len(digits) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(digits)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(d)
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil && a.Is6()
}
