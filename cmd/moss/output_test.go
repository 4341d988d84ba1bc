package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	imagesJSON = `[
	{"Id":"sha256:1111111111111111111111111111111111111111111111111111111111111111","Created":%[1]d,"Size":4500000,"SharedSize":1500000,"Containers":2,
	 "RepoTags":["busybox:latest","busybox:1"],"RepoDigests":["busybox@sha256:aaaa"]},
	{"Id":"sha256:2222222222222222222222222222222222222222222222222222222222222222","Created":%[1]d,"Size":900,"SharedSize":-1,"Containers":-1,
	 "RepoTags":[],"RepoDigests":["docker.io/library/old@sha256:bbbb"]},
	{"Id":"sha256:3333333333333333333333333333333333333333333333333333333333333333","Created":0,"Size":0,"SharedSize":0,"Containers":0,"RepoTags":[],"RepoDigests":[]}]`
	historyJSON = `[
	{"Id":"sha256:1111111111111111111111111111111111111111111111111111111111111111","Created":%[1]d,"CreatedBy":"CMD [\"sh\"]","Size":0,"Comment":"buildkit","Tags":["busybox:latest"]},
	{"Id":"<missing>","Created":0,"CreatedBy":"ADD\tfile:0123456789012345678901234567890123456789 in /","Size":4500000,"Comment":"","Tags":null}]`
	searchJSON = `[
	{"name":"few","star_count":3,"description":"","is_official":false},
	{"name":"busybox","star_count":3411,"description":"Busybox base image.\nWith a very long second line of it.","is_official":true}]`
	dfJSON = `{
	"ImageUsage":{"ActiveCount":1,"TotalCount":3,"TotalSize":4500900,"Reclaimable":900,"Items":%[2]s},
	"ContainerUsage":{"ActiveCount":1,"TotalCount":1,"TotalSize":2048,"Reclaimable":0,"Items":[
		{"Id":"cccccccccccccccccccccccccccccccc","Image":"busybox","Command":"sh","Created":%[1]d,"SizeRw":2048,"Status":"Up 2 hours","State":"running","Names":["/web"],"Mounts":[{"Driver":"local"}]}]},
	"VolumeUsage":{},"BuildCacheUsage":{}}`
)

// TestGolden compares whole outputs with testdata; times are told as ages, so
// they stay.
func TestGolden(t *testing.T) {
	at := time.Now().Add(-50 * time.Hour).Unix()
	list := fmt.Sprintf(imagesJSON, at)
	e := newEngine(t, map[string]string{
		"GET /images/json": list, "GET /images/busybox/history": fmt.Sprintf(historyJSON, at), "GET /images/search": searchJSON,
		"GET /system/df": fmt.Sprintf(dfJSON, at, list),
	})
	for name, args := range map[string][]string{
		"images":          {"images"},
		"images-digests":  {"images", "--digests"},
		"images-sizes":    {"images", "--format", "table {{.ID}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"},
		"images-quiet":    {"images", "-q", "--no-trunc"},
		"history":         {"history", "busybox"},
		"history-full":    {"history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}", "-H=false", "busybox"},
		"history-quiet":   {"history", "-q", "busybox"},
		"search":          {"search", "busybox"},
		"search-full":     {"search", "--no-trunc", "--format", "json", "busybox"},
		"df":              {"system", "df"},
		"df-format":       {"system", "df", "--format", "{{.Type}}={{.Size}}"},
		"df-verbose":      {"system", "df", "-v"},
		"df-verbose-json": {"system", "df", "-v", "--format", "json"},
	} {
		code, out, errs := run1(t, e.env, args...)
		if code != 0 {
			t.Errorf("%s: %d %s", name, code, errs)
		}
		// The same in every place and time.
		out = strings.ReplaceAll(out, time.Unix(at, 0).String(), "THEN")
		out = strings.ReplaceAll(out, time.Unix(0, 0).String(), "NEVER")
		path := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), out); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestListErrors(t *testing.T) {
	e := newEngine(t, map[string]string{"GET /system/df": "{}"})
	for args, want := range map[string]string{
		"system df -v --format x":                  "exclude each other",
		"system nosuch":                            "'moss system --help'",
		"image nosuch":                             "'moss image --help'",
		"pull --platform a/b/c/d x":                "OS/ARCH",
		"pull --platform a/ x":                     "OS/ARCH",
		"pull UPPER":                               "UPPER",
		"system prune --volumes --filter until=1h": "until",
		"load -i /nonexistent":                     "/nonexistent",
		"completion tcsh":                          "bash, zsh, fish",
		"image inspect x":                          "not in this test",
	} {
		if code, _, errs := run1(t, e.env, strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("moss %s: %d %q, want %q", args, code, errs, want)
		}
	}
}

// TestHelpOfGroups holds the help that documentation is made of.
func TestHelpOfGroups(t *testing.T) {
	for _, args := range [][]string{{"image"}, {"image", "--help"}, {"system", "--help"}, {"container", "--help"}, {"container", "ls", "--help"}} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"moss"}, args...), streams{out: &out, err: &errs}, func(string) string { return "" })
		if code != 0 || !strings.Contains(out.String(), "moss "+args[0]) || errs.Len() > 0 {
			t.Errorf("%q: %d %s %s", args, code, out.String(), errs.String())
		}
	}
}
