package forward

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
)

// FuzzAnswer: an answer that net/http understands as well says the same to both.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"No such container\"}"))
	f.Add([]byte("HTTP/1.0 204 No Content\r\n\r\n"))
	f.Add([]byte("HTTP/1.0\r\nX: 200\r\n\r\n"))
	f.Add([]byte("x -1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		status, body, err := decode(text)
		switch {
		case err == nil && (status < 100 || status >= 400):
			t.Errorf("%q has the status %d", text, status)
		case err == nil && !bytes.HasSuffix(text, body):
			t.Errorf("%q has the body %q", text, body)
		}
		res, httpErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), nil)
		if httpErr != nil {
			return
		}
		defer res.Body.Close()
		if status != 0 && status != res.StatusCode {
			t.Errorf("%q has the status %d, as net/http reads it %d", text, status, res.StatusCode)
		}
	})
}

// FuzzAddressIn: the address in what inspect says can be connected to, and is the same each time.
func FuzzAddressIn(f *testing.F) {
	f.Add([]byte(`{"State":{"Running":false}}`))
	f.Add([]byte(`{"State":{"Running":true},"NetworkSettings":{"Networks":{"in":{"IPAddress":"10.0.0.1"},"out":{"IPAddress":"10.9.0.1","Gateway":"10.9.0.254"}}}}`))
	f.Add([]byte(`{"State":{"Running":true},"NetworkSettings":{"Networks":{"a":{"IPAddress":"10.8.0.1","Gateway":"x"},"b":{"IPAddress":"10.9.0.1","Gateway":"x"},"c":{"IPAddress":"10.7.0.1","Gateway":"x"}}}}`))
	f.Add([]byte(`{"State":{"Running":true},"NetworkSettings":{"Networks":{"six":{"IPAddress":"0.0.0.0","GlobalIPv6Address":"fd00::2","IPv6Gateway":"fd00::1"}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		addr, err := addressIn(text)
		if err != nil && addr.IsValid() || err == nil && addr.IsValid() && addr.IsUnspecified() {
			t.Errorf("%s: %s, %v", text, addr, err)
		}
		for range 8 {
			if again, err2 := addressIn(text); again != addr || (err2 == nil) != (err == nil) {
				t.Fatalf("%s: %s, %v, and then %s, %v", text, addr, err, again, err2)
			}
		}
	})
}
