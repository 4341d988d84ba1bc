package main

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"runtime"

	"github.com/moss-containers/moss/pkg/config"
)

// debug is what the owner can see of the inside, below /debug/.
func (d *daemon) debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/goroutines", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(stacks()) // a lost client wants nothing more
	})
	mux.HandleFunc("POST /debug/reload", d.serveReload)
	mux.HandleFunc("GET /debug/config", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, d.inForce()) })
	mux.HandleFunc("GET /debug/boot-times", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, d.steps.told()) })
	// The clients put a version before every path.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := range r.URL.Path {
			if rest := r.URL.Path[i:]; len(rest) >= 7 && rest[:7] == "/debug/" {
				http.StripPrefix(r.URL.Path[:i], mux).ServeHTTP(w, r)
				return
			}
		}
		http.NotFound(w, r)
	})
}

// setting is one that is in force, and where it is from.
type setting struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
	From  string          `json:"from"`
}

func (d *daemon) inForce() []setting {
	d.mu.Lock()
	cfg := d.cfg
	d.mu.Unlock()
	var list []setting
	for _, key := range config.Keys() {
		from := cfg.from[key]
		if from == "" {
			from = "default"
		}
		list = append(list, setting{key, cfg.Setting(key), from})
	}
	return list
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a lost client wants nothing more
}

// stacks are those of all goroutines.
func stacks() []byte {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size {
			return b[:n]
		}
	}
}
