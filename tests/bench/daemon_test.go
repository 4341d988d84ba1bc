package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// BenchmarkReady times the first answer at the socket of a daemon that is not
// there, which the connection starts: with nothing, and with 1,000 stopped
// containers and 500 images. With all of those, ps takes its turn with docker's.
func BenchmarkReady(b *testing.B) {
	const stopped, images = 1000, 500
	var empty, crowded time.Duration
	for done := false; b.Loop(); done = true {
		if done {
			continue // a crowd is not made twice
		}
		empty = activated(b)
		if _, err := eachOf(images, 4, func(i int) []string {
			return []string{"moss", "import", "-c", "LABEL n=" + strconv.Itoa(i), filepath.Join(suite.top, "busybox.tar"), "crowd:" + strconv.Itoa(i)}
		}); err != nil {
			b.Fatal(err)
		}
		var all []contestant
		for _, p := range parties(b) {
			if p.name == "podman" {
				continue // a thousand of its creates take minutes
			}
			ids, err := repeated(stopped, 4, p.command("create", "--network", "none", "busybox", "true"))
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := p.remove(&ids); err != nil {
					b.Error(err)
				}
			}()
			all = append(all, says(p.name, p.command("ps", "-a")...))
		}
		crowded = activated(b)
		results := make([]time.Duration, len(all))
		for i, c := range all {
			var took []time.Duration
			for range 11 {
				begun := time.Now()
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			results[i] = took[len(took)/2]
			fmt.Printf("    ps -a, %d containers, %-12s %8.1f ms\n", stopped, c.name, ms(results[i]))
		}
		if len(results) == 2 {
			check(b, figure{"ps-1000/docker", float64(results[0]) / float64(results[1]), 0.3})
		}
		if _, err := eachOf(images, 4, func(i int) []string { return []string{"moss", "rmi", "crowd:" + strconv.Itoa(i)} }); err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	check(b, figure{"ready-ms", ms(empty), 100})
	check(b, figure{"ready-crowded/empty", float64(crowded) / float64(empty), 2})
	fmt.Printf("    with %d containers and %d images %.1f ms\n", stopped, images, ms(crowded))
}

// activated is the median of what the first request to a stopped daemon takes.
func activated(b *testing.B) time.Duration {
	b.Helper()
	var took []time.Duration
	for range 9 {
		suite.must(b, "systemctl", "--user", "stop", prefix+".service") // the socket stays
		begun := time.Now()
		if err := ping(b.Context(), client()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// eachOf runs a command for each number, several at a time.
func eachOf(count, atOnce int, argv func(i int) []string) ([]string, error) {
	said, errs := make([]string, count), make([]error, count)
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range count {
		slots <- struct{}{}
		wg.Go(func() {
			said[i], errs[i] = suite.output(argv(i)...)
			<-slots
		})
	}
	wg.Wait()
	return said, errors.Join(errs...)
}

// client speaks to the engine over one connection of its own.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(suite.run, "moss.sock"))
	}}}
}

func ping(ctx context.Context, c *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://moss/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// BenchmarkPing asks 2,000 times a second, over eight connections, for five seconds.
func BenchmarkPing(b *testing.B) {
	const rate, conns, long = 2000, 8, 5 * time.Second
	var took []time.Duration
	for done := false; b.Loop(); done = true {
		if done {
			continue // its length is fixed
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range conns {
			wg.Go(func() {
				c := client()
				defer c.CloseIdleConnections()
				var own []time.Duration
				ticker := time.NewTicker(time.Second * conns / rate)
				defer ticker.Stop()
				for end := time.Now().Add(long); time.Now().Before(end); <-ticker.C {
					begun := time.Now()
					if err := ping(b.Context(), c); err != nil {
						b.Error(err)
						return
					}
					own = append(own, time.Since(begun))
				}
				mu.Lock()
				took = append(took, own[1:]...) // the first one dials
				mu.Unlock()
			})
		}
		wg.Wait()
	}
	if b.Failed() {
		return
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	fmt.Printf("\n/_ping, %.0f a second: median %.3f ms, 99.9 %% %.3f ms\n", float64(len(took))/long.Seconds(), ms(took[len(took)/2]), ms(took[len(took)*999/1000]))
	check(b, figure{"ping-p99-ms", ms(took[len(took)*99/100]), 1})
}
