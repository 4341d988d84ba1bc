package engine

import (
	"math/rand/v2"
	"regexp"
	"strconv"

	"github.com/moss-containers/moss/pkg/moss"
)

// nameRule is docker's rule for container names.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

var (
	qualities = []string{
		"agile", "amber", "ancient", "bold", "brisk", "bright", "calm", "careful", "clever", "cosy", "crisp", "curious",
		"damp", "dapper", "deft", "dewy", "eager", "earnest", "easy", "fair", "fertile", "fond", "fresh", "gentle",
		"glad", "golden", "green", "happy", "hardy", "humble", "jolly", "keen", "kind", "lively", "lucid", "lush",
		"mellow", "merry", "mild", "modest", "nimble", "patient", "placid", "plucky", "proud", "quick", "quiet", "rapid",
		"rested", "rosy", "serene", "shady", "sleek", "snug", "soft", "spry", "steady", "sunny", "tidy", "verdant",
		"vivid", "warm", "wise", "witty",
	}
	// Genera of mosses, hornworts and liverworts.
	genera = []string{
		"andreaea", "anomodon", "anthoceros", "atrichum", "aulacomnium", "bartramia", "bazzania", "brachythecium", "bryum", "buxbaumia", "calliergon", "campylopus",
		"ceratodon", "climacium", "ctenidium", "dawsonia", "dicranum", "diphyscium", "encalypta", "eurhynchium", "fissidens", "fontinalis", "frullania", "funaria",
		"grimmia", "hedwigia", "herzogiella", "homalia", "hookeria", "hylocomium", "hypnum", "isothecium", "leucobryum", "leucodon", "lophocolea", "lunularia",
		"marchantia", "metzgeria", "mnium", "neckera", "orthotrichum", "pellia", "philonotis", "plagiomnium", "pleurozium", "pogonatum", "pohlia", "polytrichum",
		"porella", "ptilium", "racomitrium", "rhizomnium", "rhodobryum", "riccia", "schistidium", "scapania", "sphagnum", "splachnum", "syntrichia", "tetraphis",
		"thuidium", "tortula", "ulota", "weissia",
	}
)

// reserve takes a name for a container, or a generated one where name is empty,
// and makes sure that the id's unit name is free.
func (e *Engine) reserve(id moss.ContainerID, name string) (string, error) {
	if name != "" && !nameRule.MatchString(name) {
		return "", moss.Errorf(moss.Invalid, "Invalid container name (%s), only %s are allowed", name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if name != "" {
		if owner, taken := e.names[name]; taken {
			return "", moss.Errorf(moss.Conflict, "Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, owner)
		}
	} else {
		name = e.generate(id)
	}
	e.names[name] = id
	return name, nil
}

// generate makes up a free name; the caller holds mu.
func (e *Engine) generate(id moss.ContainerID) string {
	for try := range 8 {
		name := qualities[rand.IntN(len(qualities))] + "_" + genera[rand.IntN(len(genera))]
		if try > 3 {
			name += strconv.Itoa(rand.IntN(100))
		}
		if _, taken := e.names[name]; !taken {
			return name
		}
	}
	return id.Short()
}

func (e *Engine) unreserve(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.names, name)
}

// newID returns an id whose short form no container has.
func (e *Engine) newID() moss.ContainerID {
	for {
		if id := moss.ContainerID(moss.NewHexID()); e.byUnit(id.Short()) == nil {
			return id
		}
	}
}
