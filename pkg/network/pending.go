package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pending has the queries of a container that were taken from its socket and
// are on their way to a name server, in a file in memory that outlives a kill of
// the daemon in the descriptor store. A nil file keeps nothing.
//
// A slot is 1024 bytes: the query's length (0 for none), the client's address
// and port, the query. It is written and cleared by one write that is within a
// page, so a killed daemon leaves it whole or not at all.
type pending struct {
	file *os.File

	mu   sync.Mutex
	free []int // the last is the next
	old  []pendingQuery
}

type pendingQuery struct {
	slot  int
	from  netip.AddrPort
	query []byte
}

const (
	slotSize = 1024
	slotHead = 8
)

// newPending makes the file.
func newPending() (*os.File, error) {
	fd, err := unix.MemfdCreate("moss-queries", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), "moss-queries"), nil
}

// openPending takes the file over, with what an earlier daemon left in it.
func openPending(f *os.File) *pending {
	p := &pending{file: f}
	used := map[int]bool{}
	if f != nil {
		buf := make([]byte, slotSize)
		for slot := range mostForwarded {
			n, err := f.ReadAt(buf, int64(slot)*slotSize)
			if n < slotHead {
				if err != nil && n == 0 {
					break // the end of the file: nothing was noted behind
				}
				continue
			}
			long := int(binary.BigEndian.Uint16(buf))
			if long == 0 || slotHead+long > n {
				continue
			}
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(buf[2:6])), binary.BigEndian.Uint16(buf[6:]))
			p.old = append(p.old, pendingQuery{slot: slot, from: from, query: append([]byte(nil), buf[slotHead:slotHead+long]...)})
			used[slot] = true
		}
	}
	for slot := mostForwarded - 1; slot >= 0; slot-- {
		if !used[slot] {
			p.free = append(p.free, slot)
		}
	}
	return p
}

// left are the queries that an earlier daemon has not answered, once.
func (p *pending) left() []pendingQuery {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.old
	p.old = nil
	return old
}

// put notes a query; not ok where too many are on their way.
func (p *pending) put(from netip.AddrPort, query []byte) (q pendingQuery, ok bool) {
	p.mu.Lock()
	if len(p.free) == 0 {
		p.mu.Unlock()
		return q, false
	}
	slot := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.mu.Unlock()
	q = pendingQuery{slot: slot, from: from}
	if p.file == nil || slotHead+len(query) > slotSize || !from.Addr().Is4() {
		return q, true
	}
	buf := make([]byte, slotHead+len(query))
	four := from.Addr().As4()
	binary.BigEndian.PutUint16(buf, uint16(len(query)))
	copy(buf[2:], four[:])
	binary.BigEndian.PutUint16(buf[6:], from.Port())
	copy(buf[slotHead:], query)
	_, _ = p.file.WriteAt(buf, int64(slot)*slotSize) // without memory, the client has to ask again after a kill
	return q, true
}

// done forgets a query.
func (p *pending) done(slot int) {
	if p.file != nil {
		_, _ = p.file.WriteAt([]byte{0, 0}, int64(slot)*slotSize) // at worst it is answered twice
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, slot)
}

func (p *pending) close() error {
	if p.file == nil {
		return nil
	}
	if err := p.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
