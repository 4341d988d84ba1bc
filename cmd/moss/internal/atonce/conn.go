package atonce

import (
	"errors"
	"io"
	"strconv"
	"syscall"
)

// conn is a connection to the engine with what was read ahead. Nothing runs
// beside it, so its calls may wait.
type conn struct {
	fd     int
	socket string
	ahead  []byte
	buf    []byte
	late   func() // called once when nothing has come for a while; see beLate
}

func dial(socket string) (*conn, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket}); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return &conn{fd: fd, socket: socket, buf: make([]byte, 8<<10)}, nil
}

func (c *conn) close() { _ = syscall.Close(c.fd) }

// Read is what was read ahead, or else what comes.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	for {
		n, err := syscall.Read(c.fd, p)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN) && c.late != nil:
			c.late()
			c.late = nil
			_ = syscall.SetsockoptTimeval(c.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{}) // as it was
		case err != nil: // as package net has it
			return 0, errors.New("read unix @->" + c.socket + ": read: " + err.Error())
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// beLate has late called when nothing has come for 50 ms.
func (c *conn) beLate(late func()) {
	wait := syscall.NsecToTimeval(50e6)
	if syscall.SetsockoptTimeval(c.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait) != nil {
		late()
		return
	}
	c.late = late
}

// fill reads more into what is read ahead; the end is an error.
func (c *conn) fill() error {
	at := len(c.ahead)
	if at == len(c.buf) {
		return errors.New("the engine's answer is too long")
	}
	copy(c.buf, c.ahead)
	c.ahead = nil
	n, err := c.Read(c.buf[at:])
	c.ahead = c.buf[:at+n]
	if err == io.EOF { //nolint:errorlint // it is Read's own
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *conn) write(text []byte) error {
	for len(text) > 0 {
		// Not write(2): a daemon that has gone is an error, and no signal.
		n, err := syscall.SendmsgN(c.fd, text, nil, nil, syscall.MSG_NOSIGNAL)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		text = text[max(n, 0):]
	}
	return nil
}

// ask sends a request and reads the answer, which is short.
func (c *conn) ask(what string, body []byte) (status int, text []byte, err error) {
	if err := c.send(what, "", body); err != nil {
		return 0, nil, err
	}
	status, length, err := c.head()
	if err != nil {
		return 0, nil, err
	}
	for len(c.ahead) < length {
		if err := c.fill(); err != nil {
			return 0, nil, err
		}
	}
	text, c.ahead = c.ahead[:length], c.ahead[length:]
	return status, text, nil
}

// upgrade sends a request whose connection the answer turns into a stream, and
// says that nothing is sent on it.
func (c *conn) upgrade(what string, body []byte) error {
	if err := c.send(what, "Connection: Upgrade\r\nUpgrade: tcp\r\n", body); err != nil {
		return err
	}
	status, _, err := c.head()
	if err != nil {
		return err
	}
	if status != 101 {
		return errors.New("unable to upgrade to tcp, received " + strconv.Itoa(status)) // the library's words
	}
	_ = syscall.Shutdown(c.fd, syscall.SHUT_WR) // ended already is as good
	return nil
}

func (c *conn) send(what, headers string, body []byte) error {
	return c.write(append([]byte(what+" HTTP/1.1\r\nHost: api.moby.localhost\r\nUser-Agent: moss\r\n"+headers+
		"Content-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body...))
}

// head reads an answer's status and headers, and how long what follows is.
func (c *conn) head() (status, length int, err error) {
	var headers string
	for found := false; !found; {
		if err := c.fill(); err != nil {
			return 0, 0, err
		}
		headers, _, found = cut(string(c.ahead), "\r\n\r\n")
	}
	c.ahead = c.ahead[len(headers)+4:]
	const protocol = "HTTP/1.1 "
	if len(headers) < len(protocol)+3 || headers[:len(protocol)] != protocol {
		return 0, 0, errors.New("the engine's answer is no HTTP")
	}
	if status, err = strconv.Atoi(headers[len(protocol):][:3]); err != nil || status == 101 {
		return status, 0, err
	}
	_, text, found := cut(headers, "\r\nContent-Length: ") // as net/http writes it
	if !found {
		return 0, 0, errors.New("the engine's answer has no length")
	}
	text, _, _ = cut(text, "\r\n")
	length, err = strconv.Atoi(text)
	if length < 0 || length > len(c.buf) {
		err = errors.New("the engine's answer is too long")
	}
	return status, length, err
}

// print writes the parts of docker's multiplexed stream to where they belong, until
// its end: stdcopy of the API's library, which comes with packages that are not there yet.
func (c *conn) print(out, errs io.Writer) error {
	const most = 32 << 10
	var head [8]byte
	for {
		if err := c.full(head[:]); err != nil {
			return unlessEnd(err)
		}
		size := int(head[4])<<24 | int(head[5])<<16 | int(head[6])<<8 | int(head[7])
		to := out
		switch head[0] {
		case 0, 1:
		case 2:
			to = errs
		case 3:
			text := make([]byte, min(size, most))
			if err := c.full(text); err != nil {
				return unlessEnd(err)
			}
			return errors.New("error from daemon in stream: " + string(text))
		default:
			return errors.New("unrecognized stream: " + strconv.Itoa(int(head[0])))
		}
		part := make([]byte, min(size, most))
		for size > 0 {
			part = part[:min(size, most)]
			if err := c.full(part); err != nil {
				return unlessEnd(err)
			}
			if _, err := to.Write(part); err != nil {
				return err
			}
			size -= len(part)
		}
	}
}

func (c *conn) full(p []byte) error {
	_, err := io.ReadFull(c, p)
	return err
}

// unlessEnd lets a stream end anywhere, as that of a daemon that is killed does.
func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
