package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// check compares the machine, on which nothing happens, with what the engine
// says of it.
func (w *walk) check() {
	var wrong []string
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		wrong = w.wrongs()
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	for _, s := range wrong {
		w.t.Errorf("after lap %d: %s", w.laps, s)
	}
	for _, c := range w.each {
		w.t.Logf("client %d:\n  %s", c.n, strings.Join(c.trace, "\n  "))
	}
	journal, _ := suite.output("journalctl", "--user", "--no-pager", "-n", "300", "-o", "short-precise", "-u", prefix+".service")
	w.t.Log(journal)
}

func (w *walk) wrongs() (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var list []struct {
		ID    string
		Names []string
		State string
	}
	if err := w.r.call("GET", "/containers/json?all=1", nil, &list); err != nil {
		return []string{err.Error()}
	}
	there, err := suite.census()
	if err != nil {
		return []string{err.Error()}
	}
	names, live, known := map[string]string{}, map[string]bool{}, map[string]bool{}
	stored := 0
	for _, c := range list {
		known[c.ID] = true
		for _, n := range c.Names {
			if names[n] != "" {
				say("%s is the name of %s and of %s", n, names[n], c.ID)
			}
			names[n] = c.ID
		}
		i, err := w.r.inspect(c.ID)
		if err != nil {
			say("%s: %v", c.ID, err)
			continue
		}
		if i.State.Status != c.State {
			say("%s is %s in the list and %s", i.Name, c.State, i.State.Status)
		}
		unit := prefix + "-" + c.ID[:12] + ".service"
		switch c.State {
		case "running", "paused":
			live[c.ID] = true
			stored += w.stored
			if main := must(w.t, "systemctl", "--user", "show", "--property=MainPID", "--value", unit); main != strconv.Itoa(i.State.Pid) {
				say("%s has pid %d, and its unit %s", i.Name, i.State.Pid, main)
			}
			if syscall.Kill(i.State.Pid, 0) != nil {
				say("%s is %s without its process %d", i.Name, c.State, i.State.Pid)
			}
		case "created", "exited":
			if i.State.Pid != 0 {
				say("%s is %s and has pid %d", i.Name, c.State, i.State.Pid)
			}
		default:
			say("%s is %s: %s", i.Name, c.State, i.State.Error)
		}
	}
	for kind, all := range there {
		for _, name := range all {
			id := ""
			switch kind {
			case "mount":
				_, id, _ = strings.Cut(name, "/overlay/")
				id, _, _ = strings.Cut(id, "/")
				if id == "" {
					_, id, _ = strings.Cut(name, prefix+"/netns/")
				}
			case "unit", "cgroup":
				id = strings.TrimSuffix(strings.TrimPrefix(name, prefix+"-"), ".service")
				if strings.HasPrefix(id, "rootless") {
					id = ""
				}
			case "record":
				if !known[name] {
					say("there is a record %s", name)
				}
			default:
				id = name
			}
			if id != "" && !slices.ContainsFunc(list, func(c struct {
				ID    string
				Names []string
				State string
			},
			) bool {
				return live[c.ID] && strings.HasPrefix(c.ID, id)
			}) {
				say("of no running container: %s %s", kind, name)
			}
		}
	}
	if now := w.storedNow(); now != stored {
		say("%d descriptors are stored, for %d running containers it should be %d", now, len(live), stored)
	}
	entries := strings.FieldsSeq(inData(w.t, "ls containers"))
	for id := range entries {
		if !known[id] {
			say("a directory of a container that is not there: %s", id)
		}
	}
	return wrong
}
