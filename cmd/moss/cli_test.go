package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMain makes the test binary moss itself where a test runs it as such.
func TestMain(m *testing.M) {
	if os.Getenv("MOSS_TEST_AS_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// engine is an API that answers as it is told and keeps what it was asked.
type engine struct {
	answers map[string]string // by method and path; a status may come first: "404 {…}"
	env     map[string]string // for the client
	mu      sync.Mutex
	asked   []string // method, path, query, X-Registry-Auth, body
}

func newEngine(t *testing.T, answers map[string]string) *engine {
	t.Helper()
	e := &engine{answers: answers}
	dir, err := os.MkdirTemp("", "moss") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "moss.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(e)
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	e.env = map[string]string{"MOSS_HOST": "unix://" + l.Addr().String(), "DOCKER_CONFIG": t.TempDir()}
	return e
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/_ping" {
		w.Header().Set("Api-Version", "1.54")
		return
	}
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the version
	line := r.Method + " /" + path
	answer, ok := e.answers[line]
	asked := []string{line}
	if r.URL.RawQuery != "" {
		asked = append(asked, r.URL.Query().Encode())
	}
	if h := r.Header.Get("X-Registry-Auth"); h != "" {
		text, err := base64.URLEncoding.DecodeString(h)
		asked = append(asked, fmt.Sprintf("auth=%s%v", text, err))
	}
	if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 {
		asked = append(asked, strings.TrimSpace(string(body)))
	}
	e.mu.Lock()
	e.asked = append(e.asked, strings.Join(asked, " "))
	e.mu.Unlock()
	if answer == "hangs up" {
		panic(http.ErrAbortHandler)
	}
	code := http.StatusOK
	if n, text, found := strings.Cut(answer, " "); found && len(n) == 3 {
		if _, err := fmt.Sscan(n, &code); err == nil {
			answer = text
		}
	}
	if !ok {
		code, answer = http.StatusNotImplemented, `{"message":"not in this test: `+line+`"}`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, answer)
}

// requests are those since the last call.
func (e *engine) requests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	got := e.asked
	e.asked = nil
	return got
}

const pulled = `{"status":"Pulling from library/busybox","id":"latest"}
{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}
{"status":"Pulling fs layer","progressDetail":{},"id":"bbbbbbbbbbbb"}
{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"aaaaaaaaaaaa"}
{"status":"Pulling fs layer","progressDetail":{},"id":"bbbbbbbbbbbb"}
{"status":"Download complete","progressDetail":{},"id":"aaaaaaaaaaaa"}
{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}
{"status":"Pull complete","progressDetail":{},"id":"bbbbbbbbbbbb"}
{"status":"Digest: sha256:1"}
{"status":"Status: Downloaded newer image for busybox:latest"}
`

func TestRequests(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "in.tar")
	if err := os.WriteFile(archive, []byte("tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, map[string]string{
		"POST /images/create": pulled, "POST /images/example.com/a/b/push": `{"status":"Pushed"}`, "POST /images/docker.io/library/x/push": `{}`,
		"GET /images/get": "tar of images", "POST /images/load": `{"stream":"Loaded image: x\n"}`, "GET /images/json": "[]",
		"GET /images/search": "[]", "POST /images/prune": "{}", "POST /containers/prune": "{}", "POST /containers/c/rename": "", "GET /containers/json": "[]", "GET /containers/c/top": "{}", "GET /containers/c/stats": "{}", "POST /containers/c/pause": "", "POST /containers/c/unpause": "", "DELETE /images/x": "[]", "GET /images/x/history": "[]",
		"POST /commit": `201 {"Id":"sha256:9"}`, "GET /containers/c/export": "tar of files", "GET /system/df": "{}", "GET /images/x/json": `{"Id":"1"}`,
	})
	config := `{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},"example.com":{"auth":"ZXg6","identitytoken":"tok"}}}`
	if err := os.WriteFile(filepath.Join(e.env["DOCKER_CONFIG"], "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	hub := ` auth={"username":"hub","password":"pw","serveraddress":"https://index.docker.io/v1/"}<nil>`
	ex := ` auth={"username":"ex","serveraddress":"example.com","identitytoken":"tok"}<nil>`
	for args, want := range map[string]string{
		"pull busybox":                           "POST /images/create fromImage=docker.io%2Flibrary%2Fbusybox&tag=latest" + hub,
		"pull -q --platform arm64 busybox:1":     "POST /images/create fromImage=docker.io%2Flibrary%2Fbusybox&platform=linux%2Farm64&tag=1" + hub,
		"pull -a example.com/a/b":                "POST /images/create fromImage=example.com%2Fa%2Fb" + ex,
		"image pull localhost:5000/a:b":          "POST /images/create fromImage=localhost%3A5000%2Fa&tag=b",
		"push example.com/a/b":                   "POST /images/example.com/a/b/push tag=latest" + ex,
		"push -a example.com/a/b":                "POST /images/example.com/a/b/push" + ex,
		"push --platform linux/arm/v7 x:2":       "POST /images/docker.io/library/x/push platform=%7B%22architecture%22%3A%22arm%22%2C%22os%22%3A%22linux%22%2C%22variant%22%3A%22v7%22%7D&tag=2" + hub,
		"save x y:1":                             "GET /images/get names=x&names=y%3A1",
		"save --platform linux/amd64 x":          "GET /images/get names=x&platform=%7B%22architecture%22%3A%22amd64%22%2C%22os%22%3A%22linux%22%7D",
		"load -i " + archive:                     "POST /images/load quiet=1 tar",
		"load --platform amd64 -i " + archive:    "POST /images/load platform=%7B%22architecture%22%3A%22amd64%22%2C%22os%22%3A%22linux%22%7D&quiet=1 tar",
		"import -m said " + archive + " x:1":     "POST /images/create fromSrc=-&message=said&repo=x%3A1 tar",
		"import https://example.com/r.tar x":     "POST /images/create fromSrc=https%3A%2F%2Fexample.com%2Fr.tar&repo=x",
		"import --platform arm64 " + archive:     "POST /images/create fromSrc=-&platform=linux%2Farm64 tar",
		"images -a --filter dangling=true n":     "GET /images/json all=1&filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%2C%22reference%22%3A%7B%22n%22%3Atrue%7D%7D",
		"image ls --format {{.SharedSize}}":      "GET /images/json shared-size=1",
		"search --limit 3 --filter stars=5 fish": "GET /images/search filters=%7B%22stars%22%3A%7B%225%22%3Atrue%7D%7D&limit=3&term=fish" + hub,
		"search example.com/fish":                "GET /images/search term=example.com%2Ffish" + ex,
		"image prune -f":                         "POST /images/prune filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%7D",
		"image prune -af --filter until=1h":      "POST /images/prune filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%2C%22until%22%3A%7B%221h%22%3Atrue%7D%7D",
		"rmi -f x":                               "DELETE /images/x force=1",
		"image rm --no-prune x":                  "DELETE /images/x noprune=1",
		"history x":                              "GET /images/x/history",
		"commit -a me -m said -c CMD c x:1":      "POST /commit author=me&changes=CMD&comment=said&container=c&repo=docker.io%2Flibrary%2Fx&tag=1",
		"commit --pause=false c":                 "POST /commit container=c&pause=0",
		"container commit --no-pause c":          "POST /commit container=c&pause=0",
		"top c -o pid,user":                      "GET /containers/c/top ps_args=-o+pid%2Cuser",
		"stats --no-stream c":                    "GET /containers/c/stats stream=false",
		"ps -as":                                 "GET /containers/json all=1&size=1",
		"pause c":                                "POST /containers/c/pause",
		"container unpause c":                    "POST /containers/c/unpause",
		"rename c d":                             "POST /containers/c/rename name=d",
		"container prune -f --filter label=a":    "POST /containers/prune filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D",
		"export c":                               "GET /containers/c/export",
		"system df":                              "GET /system/df type=container&type=image&type=volume&type=build-cache",
		"system df -v":                           "GET /system/df type=container&type=image&type=volume&type=build-cache&verbose=1",
		"image inspect x":                        "GET /images/x/json",
		"inspect --type=image x":                 "GET /images/x/json",
	} {
		code, _, errs := run1(t, e.env, strings.Fields(args)...)
		if d := cmp.Diff([]string{want}, e.requests()); d != "" || code != 0 {
			t.Errorf("moss %s: %d %s\n%s", args, code, errs, d)
		}
	}
}

func TestPullSaysEachChangeOnce(t *testing.T) {
	e := newEngine(t, map[string]string{"POST /images/create": pulled})
	_, out, _ := run1(t, e.env, "pull", "busybox")
	want := `Using default tag: latest
latest: Pulling from library/busybox
aaaaaaaaaaaa: Pulling fs layer
bbbbbbbbbbbb: Pulling fs layer
aaaaaaaaaaaa: Download complete
aaaaaaaaaaaa: Pull complete
bbbbbbbbbbbb: Pull complete
Digest: sha256:1
Status: Downloaded newer image for busybox:latest
docker.io/library/busybox:latest
`
	if d := cmp.Diff(want, out); d != "" {
		t.Error(d)
	}
	if _, out, _ := run1(t, e.env, "pull", "-q", "busybox"); out != "docker.io/library/busybox:latest\n" {
		t.Errorf("%q", out)
	}
	e.answers["POST /images/create"] = `{"status":"Pulling"}` + "\n" + `{"errorDetail":{"message":"no space left"},"error":"no space left"}`
	if code, out, errs := run1(t, e.env, "pull", "-q", "busybox"); code != 1 || out != "" || errs != "moss: no space left\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	e.answers["POST /images/create"] = `{"errorDetail":{"message":"unauthorized: authentication required"},"error":"x"}`
	for name, want := range map[string]string{"busybox": ": moss login\n", "example.com/a": ": moss login example.com\n"} {
		if code, _, errs := run1(t, e.env, "pull", name); code != 1 || !strings.Contains(errs, "unauthorized") || !strings.HasSuffix(errs, want) {
			t.Errorf("%d %q", code, errs)
		}
	}
	if code, _, errs := run1(t, e.env, "pull", "-a", "busybox:1"); code != 1 || !strings.Contains(errs, "--all-tags") {
		t.Errorf("%d %q", code, errs)
	}
}

func TestRunFetchesWhatIsMissing(t *testing.T) {
	missing := `404 {"message":"No such image: busybox:latest"}`
	for _, c := range []struct {
		args         string
		code         int
		pulls        int
		silent, says string
	}{
		{"create busybox", 1, 1, "", "Unable to find image 'busybox' locally\nlatest: Pulling from library/busybox\n"},
		{"create -q busybox", 1, 1, "Pulling", "No such image"},
		{"create --pull never busybox", 1, 0, "Pulling", "No such image"},
		{"create --pull always busybox", 1, 1, "Unable", "Pulling from library/busybox\n"},
		{"create --platform arm64 busybox", 1, 1, "", "Pulling from library/busybox\n"},
	} {
		missing := missing
		if strings.Contains(c.args, "--platform") {
			missing = `404 {"message":"image with reference busybox was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)"}`
		}
		e := newEngine(t, map[string]string{"POST /images/create": pulled, "POST /containers/create": missing})
		code, out, errs := run1(t, e.env, strings.Fields(c.args)...)
		pulls := 0
		for _, r := range e.requests() {
			if strings.HasPrefix(r, "POST /images/create fromImage=docker.io%2Flibrary%2Fbusybox&") {
				pulls++
			}
		}
		if code != c.code || pulls != c.pulls || out != "" || !strings.Contains(errs, c.says) || c.silent != "" && strings.Contains(errs, c.silent) {
			t.Errorf("moss %s: %d, %d pulls, %q %q", c.args, code, pulls, out, errs)
		}
	}
}

func TestSaveLeavesNothingBehind(t *testing.T) {
	e := newEngine(t, map[string]string{"GET /images/get": `{"not":"a tar"}`})
	dir := t.TempDir()
	path := filepath.Join(dir, "out.tar")
	if code, _, errs := run1(t, e.env, "save", "-o", path, "x"); code != 0 {
		t.Fatalf("%d %s", code, errs)
	}
	content := func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("%v %v", entries, err)
		}
		return string(text)
	}
	if got := content(); got != `{"not":"a tar"}` {
		t.Errorf("%q", got)
	}
	e.answers["GET /images/get"] = `404 {"message":"No such image: x:latest"}`
	if code, _, errs := run1(t, e.env, "save", "-o", path, "x"); code != 1 || !strings.Contains(errs, "No such image") {
		t.Errorf("%d %s", code, errs)
	}
	if got := content(); got != `{"not":"a tar"}` {
		t.Errorf("%q", got)
	}
	// The connection breaks halfway, then the user interrupts.
	for _, broken := range []func(context.CancelFunc) error{
		func(context.CancelFunc) error { return io.ErrUnexpectedEOF },
		func(cancel context.CancelFunc) error { cancel(); return context.Canceled },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := copyOut(ctx, path, io.Discard, func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("half"), failing(func() error { return broken(cancel) }))), nil
		})
		cancel()
		if err == nil || content() != `{"not":"a tar"}` {
			t.Errorf("%v %q", err, content())
		}
	}
	if code, _, errs := run1(t, e.env, "save", "-o", dir, "x"); code != 1 || !strings.Contains(errs, "directory") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := run1(t, e.env, "save", "-o", filepath.Join(dir, "no", "x"), "x"); code != 1 || !strings.Contains(errs, "cannot write") {
		t.Errorf("%d %s", code, errs)
	}
}

type failing func() error

func (f failing) Read([]byte) (int, error) { return 0, f() }

func TestCompletion(t *testing.T) {
	e := newEngine(t, map[string]string{
		"GET /images/json":     `[{"Id":"1","RepoTags":["busybox:latest","localhost:5000/a:1"]}]`,
		"GET /containers/json": `[{"Id":"2","Names":["/web"]},{"Id":"3","Names":["/db"]}]`,
		"GET /volumes":         `{"Volumes":[{"Name":"data"},{"Name":"more"}]}`,
		"GET /secrets":         `[{"ID":"4","Spec":{"Name":"key"}}]`,
		"GET /configs":         `[{"ID":"5","Spec":{"Name":"conf"}}]`,
	})
	for line, want := range map[string]string{
		"pus":                  "push",
		"rmi ":                 "busybox:latest busybox localhost:5000/a:1",
		"rmi busybox loc":      "localhost:5000/a:1",
		"image rm busyb":       "busybox:latest busybox",
		"run -it ":             "busybox:latest busybox localhost:5000/a:1",
		"run busybox ":         "",
		"run --pull ":          "always missing never",
		"run --pull=n":         "--pull=never",
		"run --name x --rm -i": "",
		"run --pul":            "--pull",
		"stop ":                "web db",
		"rm -f web ":           "db",
		"exec w":               "web",
		"exec web ":            "",
		"logs web ":            "",
		"tag busybox ":         "",
		"save -o x bus":        "busybox:latest busybox",
		"save -o ":             "",
		"inspect ":             "web db busybox:latest busybox localhost:5000/a:1",
		"image inspect b":      "busybox:latest busybox",
		"container insp":       "inspect",
		"image pr":             "prune",
		"completion ":          "bash fish zsh",
		"nosuch ":              "",
		"rmi -- b":             "busybox:latest busybox",
		"volume rm data ":      "more",
		"volume export ":       "data more",
		"run -v ":              "data: more:",
		"run --volume=m":       "--volume=more:",
		"run --volumes-from w": "web",
		"run --secret ":        "key",
		"create --config ":     "conf",
		"secret rm ":           "key",
		"config inspect ":      "conf",
	} {
		words := strings.Split(strings.Join(strings.Fields(line), " "), " ")
		if strings.HasSuffix(line, " ") {
			words = append(words, "")
		}
		code, out, errs := run1(t, e.env, append(words, completeFlag)...)
		if got := strings.Join(strings.Fields(out), " "); got != want || code != 0 || errs != "" {
			t.Errorf("%q: %q, want %q (%d %s)", line, got, want, code, errs)
		}
	}
	// No engine: silence.
	env := map[string]string{"MOSS_HOST": "unix:///nonexistent/moss.sock"}
	if code, out, errs := run1(t, env, "rmi", "", completeFlag); code != 0 || out != "" || errs != "" {
		t.Errorf("%d %q %q", code, out, errs)
	}
}

func TestCompletionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	e := newEngine(t, map[string]string{"GET /images/json": `[{"Id":"1","RepoTags":["busybox:latest","localhost:5000/a:1"]}]`})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "moss")); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"moss rmi ":             "busybox:latest busybox localhost:5000/a:1",
		"moss rmi localhost:50": "5000/a:1",
		"moss run --pull=al":    "always",
		"moss image hi":         "history",
	} {
		cmd := exec.CommandContext(t.Context(), bash, "--norc", "-c", `eval "$(moss completion bash)"; COMP_LINE=$1 COMP_POINT=${#1}; _moss; echo "${COMPREPLY[@]}"`, "bash", line)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "MOSS_TEST_AS_MAIN=1", "MOSS_HOST="+e.env["MOSS_HOST"])
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != want || err != nil {
			t.Errorf("%q: %q %v, want %q", line, got, err, want)
		}
	}
	for _, shell := range []string{"zsh", "fish"} {
		if _, out, _ := run1(t, e.env, "completion", shell); !strings.Contains(out, completeFlag) {
			t.Errorf("%s: %s", shell, out)
		}
	}
}

func TestLogin(t *testing.T) {
	e := newEngine(t, map[string]string{"POST /auth": `{"Status":"Login Succeeded"}`})
	path := filepath.Join(e.env["DOCKER_CONFIG"], "config.json")
	t.Setenv("PATH", t.TempDir()) // no helper
	stdin := func(text string, args ...string) (int, string, string) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		w.Close()
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"moss"}, args...), streams{in: r, out: &out, err: &errs}, func(k string) string { return e.env[k] })
		return code, out.String(), errs.String()
	}
	code, out, errs := stdin("se:cret\n", "login", "-u", "me", "--password-stdin", "https://example.com/v2/")
	if code != 0 || out != "Login Succeeded\n" || !strings.Contains(errs, "stored unencrypted in '"+path+"'") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if d := cmp.Diff([]string{`POST /auth {"username":"me","password":"se:cret","serveraddress":"example.com"}`}, e.requests()); d != "" {
		t.Error(d)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), `"auth": "bWU6c2U6Y3JldA=="`) {
		t.Errorf("%s %v", text, err)
	}
	if code, _, errs := stdin("", "login", "-u", "me", "-p", "x", "docker.io"); code != 0 || !strings.Contains(errs, "insecure") {
		t.Errorf("%d %q", code, errs)
	}
	if d := cmp.Diff([]string{`POST /auth {"username":"me","password":"x","serveraddress":"https://index.docker.io/v1/"}`}, e.requests()); d != "" {
		t.Error(d)
	}
	// A token in place of the password, and what is kept is tried first.
	e.answers["POST /auth"] = `{"Status":"Login Succeeded","IdentityToken":"tok"}`
	if code, out, _ := stdin("", "login", "example.com"); code != 0 || !strings.Contains(out, "existing credentials") {
		t.Errorf("%d %q", code, out)
	}
	e.requests()
	e.answers["POST /auth"] = `401 {"message":"unauthorized: incorrect username or password"}`
	if code, _, errs := stdin("", "login", "example.com"); code != 1 || !strings.Contains(errs, "incorrect username") || !strings.Contains(errs, "--password-stdin") {
		t.Errorf("%d %q", code, errs)
	}
	if d := cmp.Diff([]string{`POST /auth {"username":"me","serveraddress":"example.com","identitytoken":"tok"}`}, e.requests()); d != "" {
		t.Error(d)
	}
	for args, want := range map[string]string{
		"login -u me -p x --password-stdin": "mutually exclusive", "login --password-stdin": "--username", "login -u me --password-stdin": "password is empty", "login -u me other.example.com": "no terminal",
	} {
		if code, _, errs := stdin("", strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q", args, code, errs)
		}
	}
	for args, want := range map[string]string{"logout": "Removing login credentials for https://index.docker.io/v1/\n", "logout example.com": "Removing login credentials for example.com\n", "logout nosuch.example.com": "Not logged in to nosuch.example.com\n"} {
		if code, out, errs := stdin("", strings.Fields(args)...); code != 0 || out != want {
			t.Errorf("%s: %d %q %q", args, code, out, errs)
		}
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "example.com") {
		t.Errorf("%s %v", text, err)
	}
	if got := e.requests(); slices.Contains(got, "") {
		t.Errorf("%q", got)
	}
}

func TestUpdate(t *testing.T) {
	e := newEngine(t, map[string]string{"POST /containers/c/update": `{"Warnings":["no swap"]}`})
	code, out, errs := run1(t, e.env, "update", "-m", "64m", "--memory-swap", "-1", "--cpus", "1.5", "--pids-limit", "9", "--restart", "on-failure:3", "c")
	if code != 0 || out != "c\n" || errs != "WARNING: no swap\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	got := strings.Join(e.requests(), "\n")
	for _, want := range []string{`"Memory":67108864`, `"MemorySwap":-1`, `"NanoCpus":1500000000`, `"PidsLimit":9`, `"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if code, _, errs := run1(t, e.env, "update", "c"); code != 1 || !strings.Contains(errs, "no flag says what to change") {
		t.Errorf("%d %q", code, errs)
	}
	if code, _, _ := run1(t, e.env, "update", "--restart", "on-failure:x", "c"); code != 1 {
		t.Errorf("a wrong policy ends with %d", code)
	}
}

// As with docker, that something is not there is no failure of a removal by force.
func TestRemoveWhatIsNotThere(t *testing.T) {
	for args, want := range map[string]int{"rm -f nope": 0, "rm nope": 1, "rm -f stuck": 1} {
		e := newEngine(t, map[string]string{"DELETE /containers/nope": `404 {"message":"No such container: nope"}`, "DELETE /containers/stuck": `500 {"message":"it is stuck"}`})
		code, out, errs := run1(t, e.env, strings.Fields(args)...)
		if code != want || out != "" || errs == "" {
			t.Errorf("moss %s: %d %q %q", args, code, out, errs)
		}
	}
}

// A wait that the engine ends is no exit code; one of a program is, also 125.
func TestWaitThatTheEngineEnds(t *testing.T) {
	for answer, want := range map[string]string{
		`{"StatusCode":125,"Error":{"Message":"the engine is being stopped"}}`: "1  the engine is being stopped",
		`{"StatusCode":125}`: "0 125 ",
		`{"StatusCode":7,"Error":{"Message":"it could not be removed"}}`: "0 7 ",
	} {
		e := newEngine(t, map[string]string{"POST /containers/web/wait": answer})
		code, out, errs := run1(t, e.env, "wait", "web")
		if got := fmt.Sprint(code, " ", strings.TrimSpace(out), " ", strings.TrimSpace(errs)); got != want {
			t.Errorf("%s: got %q, want %q", answer, got, want)
		}
	}
}

func TestPrune(t *testing.T) {
	e := newEngine(t, map[string]string{
		"POST /images/prune":     `{"ImagesDeleted":[{"Untagged":"x:1"},{"Deleted":"sha256:1"}],"SpaceReclaimed":1500}`,
		"POST /containers/prune": `{"ContainersDeleted":["c1","c2"],"SpaceReclaimed":500}`, "POST /networks/prune": `501 {"message":"moss does not prune networks yet"}`,
		"POST /volumes/prune": `501 {"message":"moss has no volumes yet"}`,
	})
	want := "Deleted Images:\nuntagged: x:1\ndeleted: sha256:1\n\nTotal reclaimed space: 1.5kB\n"
	if code, out, errs := run1(t, e.env, "image", "prune", "-f"); code != 0 || out != want {
		t.Errorf("%d %q %q", code, out, errs)
	}
	gone := "Deleted Containers:\nc1\nc2\n\n"
	if code, out, errs := run1(t, e.env, "container", "prune", "-f"); code != 0 || out != gone+"Total reclaimed space: 500B\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	all := gone + strings.Replace(want, "1.5kB", "2kB", 1)
	if code, out, errs := run1(t, e.env, "system", "prune", "-af"); code != 0 || out != all || !strings.Contains(errs, "Networks are not pruned: ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	e.requests()
	if code, out, errs := run1(t, e.env, "system", "prune", "-f", "--volumes"); code != 1 || out != gone || !strings.Contains(errs, "Volumes are not pruned: ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	e.requests()
	// Nobody says yes.
	if code, out, _ := run1(t, e.env, "image", "prune"); code != 1 || !strings.Contains(out, "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ") {
		t.Errorf("%d %q", code, out)
	}
	if got := e.requests(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// A field that the engine leaves out when it is empty is empty, and no error.
func TestInspectLeftOut(t *testing.T) {
	e := newEngine(t, map[string]string{"GET /containers/c/json": `{"Id":"c1","Name":"/c","Config":{},"State":{"Status":"running"},"Own":7}`})
	for format, want := range map[string]string{
		"{{.Id}} {{.Own}}": "c1 7",
		"{{.Name}}{{if .State.Health}} {{.State.Health.Status}}{{end}}": "/c",
		"{{.SizeRw}} {{json .Config.Labels}}":                           "<nil> null",
	} {
		if code, out, errs := run1(t, e.env, "inspect", "-f", format, "c"); code != 0 || out != want+"\n" {
			t.Errorf("%s: %d %q %q", format, code, out, errs)
		}
	}
	if code, out, errs := run1(t, e.env, "inspect", "-f", "{{.Name}} {{.Nope}}", "c"); code != 1 || out != "" || !strings.Contains(errs, `no entry for key "Nope"`) {
		t.Errorf("%d %q %q", code, out, errs)
	}
}
