package holder

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a connection's two ends.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = c.(*net.TCPConn), s.(*net.TCPConn)
	for _, c := range []*net.TCPConn{a, b} {
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

// relayed are the outer ends of two connections that are relayed, and what is closed when that is over.
func relayed(t *testing.T) (left, right *net.TCPConn, over chan struct{}) {
	t.Helper()
	left, inLeft := pair(t)
	inRight, right := pair(t)
	for _, c := range []*net.TCPConn{inLeft, inRight} { // as those of the holder are
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	over = make(chan struct{})
	go func() { defer close(over); relay(inLeft, inRight) }()
	return left, right, over
}

func ended(t *testing.T, over chan struct{}) {
	t.Helper()
	select {
	case <-over:
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}

func TestRelayHalves(t *testing.T) {
	left, right, over := relayed(t)
	blob := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = left.Write(blob)
		_ = left.CloseWrite()
	}()
	got, err := io.ReadAll(right)
	if err != nil || !bytes.Equal(got, blob) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	// The other half is open still.
	go func() {
		_, _ = right.Write(blob)
		_ = right.CloseWrite()
	}()
	if got, err = io.ReadAll(left); err != nil || !bytes.Equal(got, blob) {
		t.Fatalf("back: %d bytes, %v", len(got), err)
	}
	ended(t, over)
}

// A reset is one on the other side, when nothing is on its way and when something is.
func TestRelayReset(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			left, right, over := relayed(t)
			if _, err := left.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(right, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := left.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			if busy {
				go func() {
					for {
						if _, err := right.Write(make([]byte, 1<<16)); err != nil {
							return
						}
					}
				}()
			}
			left.Close()
			if _, err := io.Copy(io.Discard, right); !errors.Is(err, unix.ECONNRESET) && !(busy && err == nil) {
				t.Errorf("%v", err)
			}
			ended(t, over)
		})
	}
}

// One that has answered and does not want to hear more: the answer arrives.
func TestRelayLastWords(t *testing.T) {
	left, right, over := relayed(t)
	const words = "413 too large"
	if _, err := right.Write([]byte(words)); err != nil {
		t.Fatal(err)
	}
	if _, err := left.Write(make([]byte, 1<<20)); err != nil { // into buffers, mostly; nobody reads it
		t.Fatal(err)
	}
	right.Close() // with what it has not read: a reset
	got := make([]byte, len(words))
	if _, err := io.ReadFull(left, got); err != nil || string(got) != words {
		t.Errorf("%q, %v", got, err)
	}
	for {
		if _, err := left.Write(make([]byte, 1<<16)); err != nil {
			break
		}
	}
	ended(t, over)
}
