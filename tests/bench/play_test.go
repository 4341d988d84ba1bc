package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The test binary plays both sides of what the network's benchmarks measure, in
// containers and beside them, and writers of the journal: with playing as its first argument it is one of
// the parts, and no test.
const playing = "play"

// playAt is where a container has it, see playMounts.
const playAt = "/play"

var parts = map[string]func(args []string) error{
	"sink": playSink, "send": playSend, "web": playWeb, "ask": playAsk,
	"journal-stream": printToJournal, "journal-records": recordsToJournal,
}

func play(args []string) int {
	part := parts[args[0]]
	if part == nil {
		fmt.Fprintln(os.Stderr, "play: no part", args[0])
		return 2
	}
	if err := part(args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "play:", err)
		return 1
	}
	return 0
}

// playMounts are options of run: the binary and the libraries it is linked with.
func playMounts(b *testing.B) []string {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	argv := []string{"-v", self + ":" + playAt + ":ro"}
	for _, dir := range []string{"/lib", "/lib64"} {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			argv = append(argv, "-v", real+":"+dir+":ro")
		}
	}
	return argv
}

// playHere is the command line of a part outside of containers.
func playHere(b *testing.B, args ...string) []string {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	return append([]string{self, playing}, args...)
}

// playSink takes bytes at ADDRESS; to each who has sent all of his it says how many came.
func playSink(args []string) error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", args[0])
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go swallow(c)
	}
}

func swallow(c net.Conn) {
	defer c.Close()
	// Not io.Copy, which would not bring the bytes to this process.
	buf, n := make([]byte, 256<<10), int64(0)
	for {
		some, err := c.Read(buf)
		n += int64(some)
		if err != nil {
			break
		}
	}
	_ = binary.Write(c, binary.BigEndian, n) // whoever is gone does not wait for it
}

// playSend sends BYTES to ADDRESS and prints how many nanoseconds it took until all were there.
func playSend(args []string) error {
	total, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 256<<10)
	began := time.Now()
	for left := total; left > 0; left -= int64(len(buf)) {
		if _, err := c.Write(buf[:min(left, int64(len(buf)))]); err != nil {
			return err
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	var came int64
	if err := binary.Read(c, binary.BigEndian, &came); err != nil || came != total {
		return fmt.Errorf("%d of %d bytes came: %w", came, total, err)
	}
	fmt.Println(time.Since(began).Nanoseconds())
	return nil
}

// playWeb answers requests at ADDRESS with few bytes.
func playWeb(args []string) error {
	text := []byte("hello from the other side of a published port\n")
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) } // whoever is gone needs none
	s := http.Server{Addr: args[0], Handler: http.HandlerFunc(answer), ReadHeaderTimeout: time.Minute}
	return s.ListenAndServe()
}

// playAsk makes COUNT requests of ADDRESS, a connection each, so many AT ONCE, and
// prints how many nanoseconds that took.
func playAsk(args []string) error {
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	atOnce, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var left atomic.Int64
	left.Store(int64(count))
	errs := make([]error, atOnce)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for left.Add(-1) >= 0 && errs[i] == nil {
				errs[i] = ask(&client, "http://"+args[0]+"/")
			}
		})
	}
	wg.Wait()
	fmt.Println(time.Since(began).Nanoseconds())
	return errors.Join(errs...)
}

func ask(client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r, err := client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && (r.StatusCode != http.StatusOK || len(text) == 0) {
		err = errors.New(r.Status)
	}
	return err
}
