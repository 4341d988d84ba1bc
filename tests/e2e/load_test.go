package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Two thousand requests at once all get their own answer, and the daemon is
// the same one afterwards.
func TestParallelRequests(t *testing.T) {
	leakFree(t)
	const requests = 2000
	before := must(t, "systemctl", "--user", "show", "--property=MainPID", "--value", prefix+".service")
	client := &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DisableKeepAlives: true, // a connection each
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", suite.sock)
			},
		},
	}
	var (
		wg    sync.WaitGroup
		start = make(chan struct{})
		wrong = make(chan error, requests)
	)
	for i := range requests {
		wg.Go(func() {
			<-start
			var err error
			if i%2 == 0 {
				err = answer(client, http.MethodGet, "/containers/json?all=1", "", http.StatusOK, "[")
			} else {
				image := fmt.Sprintf("nosuch%d", i)
				err = answer(client, http.MethodPost, "/containers/create", fmt.Sprintf(`{"Image":%q}`, image),
					http.StatusNotFound, "No such image: "+image+":latest")
			}
			if err != nil {
				wrong <- err
			}
		})
	}
	close(start)
	wg.Wait()
	close(wrong)
	n := 0
	for err := range wrong {
		if n++; n <= 5 {
			t.Error(err)
		}
	}
	if n > 5 {
		t.Errorf("%d of %d requests went wrong", n, requests)
	}
	if after := must(t, "systemctl", "--user", "show", "--property=MainPID", "--value", prefix+".service"); after != before {
		t.Errorf("the daemon was %s and is %s", before, after)
	}
}

// answer makes one request and says what is wrong with the answer to it.
func answer(client *http.Client, method, path, body string, status int, part string) error {
	req, err := http.NewRequest(method, "http://moss"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != status || !strings.Contains(string(got), part) {
		return fmt.Errorf("%s %s: %s: %s; want %d and %q", method, path, res.Status, got, status, part)
	}
	return nil
}
