package execfifo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	asInit   = "EXECFIFO_TEST_INIT" // fills its fifo, or leaves it as it is
	theFifo  = 3
	theOrder = "now\n"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(asInit); how != "" {
		if err := actAsInit(how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// actAsInit is what libcontainer's init does, in steps: it says when the fifo is open,
// and writes when it is told to.
func actAsInit(how string) error {
	if how == "fills" {
		if err := Fill(theFifo); err != nil {
			return err
		}
	}
	w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", theFifo), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	fmt.Println("open")
	order := bufio.NewReader(os.Stdin)
	if _, err := order.ReadString('\n'); err != nil {
		return err
	}
	if _, err := w.Write([]byte{letsGo}); err != nil {
		return err
	}
	fmt.Println("gone")
	_, err = io.Copy(io.Discard, order) // the program
	return err
}

type initProcess struct {
	t          *testing.T
	pid, pidfd int
	path       string
	orders     io.WriteCloser
	says       *bufio.Reader
}

func startInit(t *testing.T, how string) *initProcess {
	t.Helper()
	p := &initProcess{t: t, path: filepath.Join(t.TempDir(), "exec.fifo")}
	if err := unix.Mkfifo(p.path, 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := unix.Open(p.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	own := os.NewFile(uintptr(held), p.path)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asInit+"="+how)
	cmd.ExtraFiles = []*os.File{own}
	cmd.Stderr = os.Stderr
	orders, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	says, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.orders, p.says = orders, bufio.NewReader(says)
	if err := errors.Join(cmd.Start(), own.Close()); err != nil {
		t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	if p.pidfd, err = unix.PidfdOpen(p.pid, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		_ = unix.Close(p.pidfd)
	})
	return p
}

func (p *initProcess) reader() int {
	p.t.Helper()
	fd, err := unix.Open(p.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	return fd
}

func (p *initProcess) close(fd int) {
	p.t.Helper()
	if err := unix.Close(fd); err != nil {
		p.t.Fatal(err)
	}
}

func (p *initProcess) hear(want string) {
	p.t.Helper()
	if line, err := p.says.ReadString('\n'); err != nil || line != want+"\n" {
		p.t.Fatalf("it says %q, want %q: %v", line, want, err)
	}
}

func (p *initProcess) order() {
	p.t.Helper()
	if _, err := io.WriteString(p.orders, theOrder); err != nil {
		p.t.Fatal(err)
	}
}

// A reader that is killed before it has read has done nothing.
func TestFillOutlivesReaders(t *testing.T) {
	p := startInit(t, "fills")
	p.hear("open")
	p.close(p.reader())
	p.order()
	p.close(p.reader())
	fd := p.reader()
	defer p.close(fd)
	if !Held(p.pid, fd) {
		t.Fatal("it does not wait any more")
	}
	if err := Await(t.Context(), p.pid, p.pidfd, fd); err != nil {
		t.Fatal(err)
	}
	p.hear("gone")
}

// Nor does init need one that is killed after it.
func TestFillNeedsOneRead(t *testing.T) {
	p := startInit(t, "fills")
	p.hear("open")
	fd := p.reader()
	if n, err := unix.Read(fd, make([]byte, 1<<16)); err != nil || n < 1 {
		t.Fatal(n, err)
	}
	p.close(fd)
	p.order()
	p.hear("gone")
	fd = p.reader() // the next one finds the byte
	defer p.close(fd)
	if err := Await(t.Context(), p.pid, p.pidfd, fd); err != nil {
		t.Fatal(err)
	}
}

// Without Fill it is as the specification has it, also for who awaits it: the runtime
// of an older moss made such.
func TestAwaitWithoutFill(t *testing.T) {
	p := startInit(t, "does not fill")
	fd := p.reader()
	defer p.close(fd)
	p.hear("open")
	p.order()
	if err := Await(t.Context(), p.pid, p.pidfd, fd); err != nil {
		t.Fatal(err)
	}
	p.hear("gone")
}
