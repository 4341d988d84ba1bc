package dockerconfig

import (
	"encoding/json"
	"testing"
)

// FuzzCredentials: an entry of docker's config.json, written by whatever client.
func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{"auth":"bWU6c2VjcmV0","identitytoken":"x"}`))
	f.Add([]byte(`{"auth":5}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		var e entry
		if json.Unmarshal(text, &e) == nil {
			_, _ = e.decode("registry.example.com")
		}
	})
}
