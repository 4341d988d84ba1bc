package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// printing is what a container prints in a benchmark of logs: a file of lines of
// 100 bytes, each another one, and the command that prints it.
type printing struct {
	name    string
	size    int
	command string
}

var printings = []printing{
	{"bulk", 256 << 20, "cat /in"},
	{"lines", 64 << 20, "dd if=/in bs=100 2>/dev/null"}, // a write each
}

// file makes the file to be printed.
func (p printing) file(b *testing.B) string {
	b.Helper()
	path := filepath.Join(suite.top, "print-"+p.name)
	var text []byte
	for i := range p.size / 100 {
		text = fmt.Appendf(text, "%08d%s\n", i, strings.Repeat("x", 91))
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.Remove(path) })
	return path
}

// logger is an engine with a log driver: it runs the command in a container that
// nobody is attached to, until all is in the log.
func logger(name string, run, wait, rm []string, in, command string) contestant {
	id := ""
	remove := func() error {
		if id == "" {
			return nil
		}
		_, err := suite.output(append(rm, "-f", id)...)
		id = ""
		return err
	}
	return contestant{name: name, reset: remove, clean: remove, run: func() (err error) {
		id, err = suite.output(append(run, "-v", in+":/in:ro", "busybox", "sh", "-c", command)...)
		if err == nil {
			_, err = suite.output(append(wait, id)...)
		}
		return err
	}}
}

func mossLogger(driver, in, command string) contestant {
	return logger("moss "+driver, []string{"moss", "run", "-d", "--network", "none", "--log-driver", driver},
		[]string{"moss", "wait"}, []string{"moss", "rm"}, in, command)
}

func podmanLogger(driver, in, command string) contestant {
	return logger("podman "+driver, podmanRun("-d", "--network", "none", "--log-driver", driver), pod("wait"), pod("rm"), in, command)
}

func dockerLogger(docker func(argv ...string) []string, in, command string) contestant {
	return logger("docker json-file", docker("run", "-d", "--network", "none", "--log-driver", "json-file"),
		docker("wait"), docker("rm"), in, command)
}

// BenchmarkLogs prints much with each driver. A pipe that is written to a file
// is what there can be at most.
func BenchmarkLogs(b *testing.B) {
	for _, p := range printings {
		b.Run(p.name, func(b *testing.B) {
			in, out := p.file(b), filepath.Join(suite.top, "printed")
			defer os.Remove(out)
			here := strings.ReplaceAll(p.command, "/in", in)
			all := []contestant{
				mossLogger("json-file", in, p.command), mossLogger("local", in, p.command),
				{name: "pipe to file", run: func() error { _, err := suite.output("sh", "-c", here+" | cat >"+out); return err }},
			}
			if podmanUp(b) {
				all = append(all, podmanLogger("k8s-file", in, p.command))
			}
			if docker := dockerUp(b); docker != nil {
				all = append(all, dockerLogger(docker, in, p.command))
			}
			_, results := throughput(b, p, all)
			slower(b, results, "podman k8s-file", 1)
			slower(b, results, "docker json-file", 0.25)
		})
	}
}

// slower compares the rate of the one of that name with the first's, if it took part.
func slower(b *testing.B, results []result, name string, limit float64) {
	b.Helper()
	for i := range results {
		if results[i].name == name {
			check(b, figure{strings.ReplaceAll(name, " ", "-") + "/json-file", median(results[0].wall) / median(results[i].wall), limit})
			return
		}
	}
	b.Logf("%s is not installed: not compared with it", name)
}

// BenchmarkJournald does the same with the journal, which is far slower.
func BenchmarkJournald(b *testing.B) {
	p := printing{"journal", 6 << 20, "cat /in"}
	in := p.file(b)
	silent := mossLogger("journald", in, "true")
	silent.name = "moss journald, nothing printed"
	all := []contestant{
		mossLogger("journald", in, p.command), silent,
		inUnit(b, "docker's fields, straight", "journal-records", in),
		inUnit(b, "systemd-cat", "journal-stream", "cat", in),
		inUnit(b, "systemd-cat, nothing printed", "journal-stream", "true"),
	}
	if podmanUp(b) {
		all = append(all, podmanLogger("journald", in, p.command))
	}
	_, r := throughput(b, p, all)
	// By processor time, nearly all of which is journald's. That of clients, a
	// container and a unit is no log's. What journald takes for records with docker's
	// fields is the measure; systemd-cat's have ten fields fewer, and are told.
	idle := median(r[4].cpu)
	ours := median(r[0].cpu) - median(r[1].cpu)
	check(b, figure{"cpu/straight", ours / (median(r[2].cpu) - idle), 1.2})
	cat := ours / (median(r[3].cpu) - idle)
	b.ReportMetric(cat, "cpu/systemd-cat")
	fmt.Printf("    %-34s %8.2f\n", "cpu/systemd-cat", cat)
}

// inUnit is a part of this binary's that a unit of the user's runs: journald adds
// fields to all that comes from one, as it does to what the engine sends.
func inUnit(b *testing.B, name, part string, args ...string) contestant {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	return says(name, append([]string{"systemd-run", "--user", "--quiet", "--wait", "--collect", self, playing, part}, args...)...)
}

// recordsToJournal sends the lines of a file with the fields that docker gives
// them, and returns when journald has taken all.
func recordsToJournal(args []string) error {
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: "/run/systemd/journal/socket", Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteBuffer(8 << 20); err != nil {
		return err
	}
	id := strings.Repeat("0123456789abcdef", 4)
	fixed := "CONTAINER_ID_FULL=" + id + "\nCONTAINER_ID=" + id[:12] + "\nCONTAINER_NAME=straight\nCONTAINER_TAG=" + id[:12] +
		"\nSYSLOG_IDENTIFIER=" + id[:12] + "\nIMAGE_NAME=busybox\nCONTAINER_LOG_EPOCH=" + id + "\nPRIORITY=6\n"
	var batch []byte
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if len(batch) == 0 { // as many have one time as one read brings
			fixed, _, _ = strings.Cut(fixed, "SYSLOG_TIMESTAMP=")
			fixed += "SYSLOG_TIMESTAMP=" + time.Now().UTC().Format(time.RFC3339Nano) + "\n"
		}
		batch = append(fmt.Appendf(append(batch, fixed...), "CONTAINER_LOG_ORDINAL=%d\nMESSAGE=", n), line...)
		batch = append(batch, '\n')
		if len(batch) >= 64<<10 || n*100 >= len(text) {
			if _, err := c.Write(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return taken(c)
}

// taken waits until the other side has read all that was sent.
func taken(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	for {
		waiting, failed := 0, error(nil)
		if err := raw.Control(func(fd uintptr) { waiting, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || failed != nil {
			return errors.Join(err, failed)
		}
		if waiting == 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// printToJournal does what systemd-cat does, and returns when journald has taken
// all: its share goes on for seconds where the machine is busy, and what is
// spent after that is not counted (see quiet).
func printToJournal(argv []string) error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: "/run/systemd/journal/stdout", Net: "unix"})
	if err != nil {
		return err
	}
	defer c.Close()
	// Identifier, unit, priority, whether lines begin with their own, and that
	// none goes elsewhere: sd_journal_stream_fd(3).
	if _, err := c.Write([]byte("bench\n\n6\n1\n0\n0\n0\n")); err != nil {
		return err
	}
	f, err := c.File()
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout = f
	if err := cmd.Run(); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c) // journald closes its end once it has read all
	return err
}

// throughput returns MB/s, by wall time.
func throughput(b *testing.B, p printing, all []contestant) (rates []float64, results []result) {
	b.Helper()
	results = inTurns(b, all)
	fmt.Printf("\nlog %s, %d MB: median (lower quartile)\n", p.name, p.size>>20)
	for i := range results {
		mb := float64(p.size) / 1e6
		rate := mb / median(results[i].wall) * 1000
		fmt.Println("   ", results[i].row(), strconv.FormatFloat(rate, 'f', 0, 64), "MB/s,",
			strconv.FormatFloat(median(results[i].cpu)/mb, 'f', 1, 64), "ms/MB")
		rates = append(rates, rate)
	}
	return rates, results
}
