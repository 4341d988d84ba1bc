package secret

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzReply: whatever systemd's service answers, what follows the answer is not
// heard, and a refusal can be shown.
func FuzzReply(f *testing.F) {
	f.Add([]byte("{\"parameters\":{\"blob\":\"c2VhbGVk\",\"data\":\"AAH/\"}}\x00"))
	f.Add([]byte("{\"error\":\"org.varlink.service.InterfaceNotFound\"}\x00{}\x00"))
	f.Add([]byte("{\"error\":\"io.systemd.\\u001b[2J\",\"parameters\":{\"a\":\"\\u0007\"}}\x00"))
	f.Add([]byte("{\"error\":\"io.systemd.No\",\"parameters\":\"" + strings.Repeat("long", 10<<10) + "\"}\x00"))
	f.Add([]byte("{\"parameters\":{\"data\":" + strings.Repeat("9", 10<<10) + "}}\x00"))
	f.Add([]byte("{\"parameters\":null}\x00"))
	f.Add([]byte("{\"parameters\":{\"data\":\"\"}}\x00"))
	f.Add([]byte("{}\x00"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		type result struct {
			Blob string `json:"blob"`
			Data []byte `json:"data"`
		}
		hear := func(text []byte) (reply varlinkReply, out result, err error) {
			if reply, err = readReply(bytes.NewReader(text)); err == nil {
				err = reply.result(&out)
			}
			return reply, out, err
		}
		reply, out, err := hear(text)
		whole, _, ended := bytes.Cut(text, []byte{0})
		if ended {
			_, again, err2 := hear(append(bytes.Clone(whole), 0))
			if (err2 == nil) != (err == nil) || !reflect.DeepEqual(again, out) {
				t.Errorf("with what follows %+v, %v; without %+v, %v", out, err, again, err2)
			}
		}
		switch {
		case err == nil && (!ended || !json.Valid(whole) || reply.Error != ""):
			t.Errorf("%q is taken for a result: %+v", text, out)
		case err != nil && (len(err.Error()) > 8<<10 || strings.ContainsFunc(err.Error(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' })):
			t.Errorf("%d bytes: %.200q", len(err.Error()), err)
		}
	})
}

// FuzzRecord: the file of a secret may be anything. One that is read is whole, and can be written.
func FuzzRecord(f *testing.F) {
	f.Add("a", []byte(`{"ID":"a","Kind":"secret","Name":"n","Labels":{"a":"b"},"Created":"2024-01-01T00:00:00Z","Version":1,"Data":"AAH/"}`))
	f.Add("a", []byte(`{"ID":"a","Kind":"config","Name":"n","Sealed":"x"}`))
	f.Add("a", []byte(`{"ID":"b","Kind":"secret","Name":"n"}`))
	f.Add("a", []byte(`{"ID":"a","Kind":"other","Name":"n"}`))
	f.Fuzz(func(t *testing.T, id string, text []byte) {
		e, err := decode(moss.SecretID(id), text)
		if err != nil {
			return
		}
		if string(e.ID) != id || e.Name == "" || e.Kind != moss.KindSecret && e.Kind != moss.KindConfig {
			t.Errorf("%q is read as %+v", text, e)
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatal("it cannot be written:", err)
		}
		if back, err := decode(e.ID, again); err != nil || back.Name != e.Name || !bytes.Equal(back.Data, e.Data) || back.Sealed != e.Sealed {
			t.Errorf("%s is read back as %+v, %v", again, back, err)
		}
	})
}
