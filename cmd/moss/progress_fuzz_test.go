package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client/pkg/jsonmessage"
)

// FuzzProgress: whatever an engine tells of a pull, the first failure in it is the
// command's, in words, and nothing that is shown does a terminal anything.
func FuzzProgress(f *testing.F) {
	f.Add(`{"status":"Pulling fs layer","progressDetail":{},"id":"a"}{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"a"}`)
	f.Add(`{"status":"x","id":"a"} {"status":"x","id":"a"} {"id":"a","errorDetail":{"message":"no"}}`)
	f.Add(`{"id":"b","errorDetail":{"message":"no","code":1}}`)
	f.Add(`{"id":"b","errorDetail":{}}`)
	f.Add(`{"id":"b","status":5}`)
	f.Add(`{"id":"b","progressDetail":{"current":-100,"total":100,"start":-5}}`)
	f.Add(`{"id":"\u001b[2J","status":"\u009b\n\u0007","progressDetail":{"current":1,"units":"\r"},"stream":"\u001b"}`)
	f.Add(`{"stream":"Loaded image: x\r\n"} null [] `)
	f.Add(`{"id":"c","aux":{}}{"stream":`)
	f.Fuzz(func(t *testing.T, text string) {
		fails, failure := false, ""
		for d := json.NewDecoder(strings.NewReader(text)); ; {
			var m jsonstream.Message
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || m.Error != nil && m.Aux == nil { // which is none of a message
				fails = true
				if err == nil {
					failure = m.Error.Message
				}
				break
			}
		}
		var out strings.Builder
		err := (&app{}).progress(io.NopCloser(strings.NewReader(text)), &out)
		if (err != nil) != fails || err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Errorf("%q: %v, where it fails: %v", text, err, fails)
		}
		if control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }; strings.ContainsFunc(out.String(), control) ||
			err != nil && (strings.ContainsFunc(err.Error(), control) || len(err.Error()) > 8<<10) {
			t.Errorf("%q shows %q, %v", text, out.String(), err)
		}
		if failure != "" && !strings.ContainsFunc(failure, unicode.IsControl) && len(failure) < 4<<10 && err != nil && err.Error() != strings.TrimSpace(failure) && strings.TrimSpace(failure) != "" {
			t.Errorf("%q fails with %q", text, err)
		}
		if out.Len() > 4*len(text)+100 {
			t.Errorf("%d bytes show %d", len(text), out.Len())
		}
		for m, err := range progressOf(strings.NewReader(text)) {
			if err != nil || m.Progress == nil {
				continue
			}
			for _, width := range []uint16{0, 80, 200} { // as on a terminal
				if bar := jsonmessage.RenderTUIProgress(*m.Progress, width); strings.ContainsFunc(bar+m.Status+m.ID, unicode.IsControl) || len(bar) > len(text)+200 {
					t.Errorf("%q has the bar %q", text, bar)
				}
			}
		}
	})
}
