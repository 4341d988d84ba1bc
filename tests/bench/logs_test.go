package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// printing is what a container prints in a benchmark of logs: a file of lines of
// 100 bytes, and the command that prints it.
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
	line := []byte(strings.Repeat("x", 99) + "\n")
	if err := os.WriteFile(path, bytes.Repeat(line, p.size/len(line)), 0o644); err != nil {
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
		mossLogger("journald", in, p.command),
		{name: "systemd-cat", run: func() error { return printToJournal("cat", in) }},
		silent,
	}
	if podmanUp(b) {
		all = append(all, podmanLogger("journald", in, p.command))
	}
	_, results := throughput(b, p, all)
	// By processor time, nearly all of which is journald's. That of two clients
	// and of a container, which systemd-cat does without, is no log's.
	check(b, figure{"cpu/systemd-cat", (median(results[0].cpu) - median(results[2].cpu)) / median(results[1].cpu), 1.2})
}

// printToJournal does what systemd-cat does, and returns when journald has taken
// all: its share goes on for seconds where the machine is busy, and what is
// spent after that is not counted (see quiet).
func printToJournal(argv ...string) error {
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
