package network

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	upstreamTimeout = 3 * time.Second        // for an answer of one server
	impatience      = 250 * time.Millisecond // after which the next one is asked as well
	distrust        = 30 * time.Second       // for which a slow one is asked last
)

// slowness knows the name servers that let others answer first, or failed.
// They are asked last for a while, so that a dead one costs no more than one
// query's impatience now and then.
type slowness struct {
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time
}

// sorted returns the servers in the order to ask them in.
func (s *slowness) sorted(servers []netip.AddrPort) []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.until) == 0 || len(servers) < 2 {
		return servers
	}
	now := time.Now()
	slow := map[netip.AddrPort]bool{}
	for a, until := range s.until {
		if slow[a] = now.Before(until); !slow[a] {
			delete(s.until, a)
		}
	}
	out := slices.Clone(servers)
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int {
		switch {
		case slow[a] == slow[b]:
			return 0
		case slow[b]:
			return -1
		}
		return 1
	})
	return out
}

func (s *slowness) tell(server netip.AddrPort, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slow {
		delete(s.until, server)
		return
	}
	if s.until == nil {
		s.until = map[netip.AddrPort]time.Time{}
	}
	s.until[server] = time.Now().Add(distrust)
}

// elsewhere asks the servers that the user named, or the host's.
func (r *resolver) elsewhere(network string, q *dns.Msg) *dns.Msg {
	fail := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	fail.RecursionAvailable = true
	view := r.view.Load()
	if !view.forward {
		return fail // an internal network is one from names, too
	}
	servers, slow, netns := view.servers, &r.own, r.netns
	if len(servers) == 0 {
		servers, slow, netns = r.host(), r.slow, ""
	}
	ask := func(ctx context.Context, s netip.AddrPort) (*dns.Msg, error) {
		return exchange(ctx, q, network, s, netns)
	}
	if answer := askAll(r.ctx, slow, servers, ask); answer != nil {
		return answer
	}
	return fail
}

// askAll asks one server after the other, without waiting long for any, and
// returns the first answer; one that refuses or fails leaves it to the others,
// as resolvers do. Nil where none has an answer.
func askAll(ctx context.Context, slow *slowness, servers []netip.AddrPort, ask func(context.Context, netip.AddrPort) (*dns.Msg, error)) *dns.Msg {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		at     int
		answer *dns.Msg
		err    error
	}
	servers = slow.sorted(servers)
	results := make(chan result, len(servers))
	patience := time.NewTimer(impatience)
	defer patience.Stop()
	asked, open := 0, map[int]bool{}
	next := func() {
		at := asked
		asked++
		open[at] = true
		patience.Reset(impatience)
		go func() {
			answer, err := ask(ctx, servers[at])
			if err == nil && (answer.Rcode == dns.RcodeServerFailure || answer.Rcode == dns.RcodeRefused) {
				answer = nil
			}
			results <- result{at, answer, err}
		}()
	}
	for asked < len(servers) || len(open) > 0 {
		if len(open) == 0 {
			next()
		}
		select {
		case r := <-results:
			delete(open, r.at)
			if ctx.Err() != nil {
				return nil
			}
			slow.tell(servers[r.at], r.err != nil)
			if r.answer == nil {
				continue
			}
			for at := range open {
				if at < r.at { // and was overtaken
					slow.tell(servers[at], true)
				}
			}
			return r.answer
		case <-patience.C:
			if asked < len(servers) {
				next()
			}
		}
	}
	return nil
}

// exchange asks one server, from inside a namespace if there is one.
func exchange(ctx context.Context, q *dns.Msg, network string, server netip.AddrPort, netns string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	var conn net.Conn
	dial := func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, server.String())
		return err
	}
	var err error
	if netns == "" {
		err = dial()
	} else {
		err = inNetNS(netns, dial)
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The library minds the context's deadline only, not its end.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	own := q.Copy()
	own.Id = dns.Id() // nobody in a container chooses what we ask with
	client := dns.Client{Net: network, Timeout: upstreamTimeout}
	answer, _, err := client.ExchangeWithConnContext(ctx, own, &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize})
	if err != nil {
		return nil, err
	}
	answer.Id = q.Id
	return answer, nil
}
