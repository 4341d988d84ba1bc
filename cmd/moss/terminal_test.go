package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// console is a terminal that keeps what is written to it.
type console struct {
	tty  *os.File
	user *os.File // the other side
}

func newConsole(t *testing.T, columns uint16) *console {
	t.Helper()
	user, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: columns}); err != nil {
		t.Fatal(err)
	}
	return &console{tty, user}
}

// until reads on until the terminal shows that text.
func (c *console) until(t *testing.T, text string) string {
	t.Helper()
	var got strings.Builder
	b := make([]byte, 4096)
	for !strings.Contains(got.String(), text) {
		n, err := c.user.Read(b)
		got.Write(b[:n])
		if err != nil {
			t.Fatalf("%q never came: %q %v", text, got.String(), err)
		}
	}
	return got.String()
}

var escape = regexp.MustCompile("\x1b\\[([0-9]*)([A-Z])|\r|\n|[^\x1b\r\n]+")

// screen is what lines a terminal shows after that text.
func screen(t *testing.T, text string) (lines []string) {
	t.Helper()
	row, column := 0, 0
	line := func() *string {
		for len(lines) <= row {
			lines = append(lines, "")
		}
		return &lines[row]
	}
	for _, m := range escape.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			n = 1
		}
		switch {
		case m[2] == "A":
			row = max(row-n, 0)
		case m[2] == "B":
			row += n
		case m[2] == "K":
			*line() = ""
		case m[2] != "":
			t.Fatalf("what is %q?", m[0])
		case m[0] == "\r":
			column = 0
		case m[0] == "\n":
			row++
		default:
			l := line()
			if *l = (*l)[:min(column, len(*l))]; len(*l) < column {
				*l += strings.Repeat(" ", column-len(*l))
			}
			*l += m[0]
			column += len(m[0])
		}
	}
	return lines
}

func TestBarsOnATerminal(t *testing.T) {
	first := `{"status":"Pulling from library/busybox","id":"latest"}
{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}
{"status":"Pulling fs layer","progressDetail":{},"id":"bbbbbbbbbbbb"}
{"status":"Downloading","progressDetail":{"current":50000000,"total":100000000},"id":"aaaaaaaaaaaa"}
`
	last := `{"status":"Pull complete","progressDetail":{},"id":"bbbbbbbbbbbb"}
{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}
{"status":"Status: Downloaded newer image for busybox:latest"}
`
	for columns, bar := range map[uint16]string{
		200: "[=========================>                         ]     50MB/100MB", 80: "    50MB/100MB",
	} {
		c := newConsole(t, columns)
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := (&app{}).progress(r, c.tty)
			_, _ = io.WriteString(c.tty, "the end")
			done <- err
		}()
		if _, err := io.WriteString(w, first); err != nil {
			t.Fatal(err)
		}
		text := c.until(t, "100MB")
		if got := screen(t, text); len(got) < 3 || got[1] != "aaaaaaaaaaaa: Downloading "+bar || got[2] != "bbbbbbbbbbbb: Pulling fs layer " {
			t.Errorf("%d columns: %q", columns, got)
		}
		if _, err := io.WriteString(w, last); err != nil {
			t.Fatal(err)
		}
		w.Close()
		text += c.until(t, "the end")
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []string{"latest: Pulling from library/busybox", "aaaaaaaaaaaa: Pull complete ", "bbbbbbbbbbbb: Pull complete ", "Status: Downloaded newer image for busybox:latest", "the end"}
		if got := screen(t, text); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%d columns: %q", columns, got)
		}
		c.tty.Close()
		c.user.Close()
	}
}

func TestLoginAsksOnATerminal(t *testing.T) {
	e := newEngine(t, map[string]string{"POST /auth": `{"Status":"Login Succeeded"}`})
	t.Setenv("PATH", t.TempDir())
	c := newConsole(t, 80)
	defer c.tty.Close()
	defer c.user.Close()
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"moss", "login", "example.com"}, streams{in: c.tty, out: c.tty, err: c.tty}, func(k string) string { return e.env[k] })
	}()
	c.until(t, "Username: ")
	if _, err := c.user.WriteString("me\n"); err != nil {
		t.Fatal(err)
	}
	c.until(t, "Password: ")
	if _, err := c.user.WriteString("secret\n"); err != nil {
		t.Fatal(err)
	}
	if text := c.until(t, "Login Succeeded"); strings.Contains(text, "secret") {
		t.Errorf("the password was shown: %q", text)
	}
	if n := <-code; n != 0 {
		t.Errorf("exit code %d", n)
	}
	if got := e.requests(); len(got) != 1 || got[0] != `POST /auth {"username":"me","password":"secret","serveraddress":"example.com"}` {
		t.Errorf("%q", got)
	}
	if text, err := os.ReadFile(filepath.Join(e.env["DOCKER_CONFIG"], "config.json")); err != nil || !strings.Contains(string(text), "bWU6c2VjcmV0") {
		t.Errorf("%s %v", text, err)
	}
}

func TestPruneAsksOnATerminal(t *testing.T) {
	for answer, want := range map[string]int{"y": 1, "yes": 1, "n": 0, "": 0} {
		e := newEngine(t, map[string]string{"POST /images/prune": "{}"})
		c := newConsole(t, 80)
		code := make(chan int, 1)
		go func() {
			code <- run(t.Context(), []string{"moss", "image", "prune"}, streams{in: c.tty, out: c.tty, err: c.tty}, func(k string) string { return e.env[k] })
		}()
		c.until(t, "[y/N] ")
		if _, err := c.user.WriteString(answer + "\n"); err != nil {
			t.Fatal(err)
		}
		if n := <-code; (n == 0) != (want == 1) {
			t.Errorf("%q: exit code %d", answer, n)
		}
		if got := e.requests(); len(got) != want {
			t.Errorf("%q: %q", answer, got)
		}
		c.tty.Close()
		c.user.Close()
	}
}

func TestNoArchiveToATerminal(t *testing.T) {
	e := newEngine(t, map[string]string{"GET /images/get": http.StatusText(200)})
	c := newConsole(t, 80)
	defer c.tty.Close()
	defer c.user.Close()
	for _, args := range [][]string{{"save", "x"}, {"export", "x"}, {"load"}} {
		var errs strings.Builder
		code := run(t.Context(), append([]string{"moss"}, args...), streams{in: c.tty, out: c.tty, err: &errs}, func(k string) string { return e.env[k] })
		if code != 1 || !strings.Contains(errs.String(), "terminal") {
			t.Errorf("%q: %d %s", args, code, errs.String())
		}
	}
	if got := e.requests(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
