package config

import (
	"strings"
	"testing"
)

func TestImages(t *testing.T) {
	for text, want := range map[string]string{
		`{"registry-mirrors": ["https://hub.example.com", "http://192.0.2.1:5000/"]}`:                                "",
		`{"registry-mirrors": ["hub.example.com:5000"]}`:                                                             "no scheme",
		`{"registry-mirrors": ["ftp://hub.example.com"]}`:                                                            "unsupported scheme",
		`{"registry-mirrors": ["https://u:secret@hub.example.com"]}`:                                                 "username/password",
		`{"registry-mirrors": ["https://hub.example.com/?a=b"]}`:                                                     "query or fragment",
		`{"registry-mirrors": ["https://hub.example.com/hub"]}`:                                                      "registries.conf",
		`{"registry-mirrors": ["https:///"]}`:                                                                        "no host",
		`{"insecure-registries": ["registry.example.com", "registry.example.com:5000", "10.0.0.0/8", "[::1]:5000"]}`: "",
		`{"insecure-registries": ["http://registry.example.com"]}`:                                                   "://",
		`{"insecure-registries": ["registry.example.com:99999"]}`:                                                    "invalid port",
		`{"insecure-registries": ["a/b"]}`:                                                                           "invalid host",
		`{"insecure-registries": [""]}`:                                                                              "invalid host",
		`{"max-concurrent-downloads": 8, "max-concurrent-uploads": 1, "max-download-attempts": 2}`:                   "",
		`{"max-concurrent-downloads": 0}`:                                                                            `"max-concurrent-downloads"`,
		`{"max-concurrent-uploads": -1}`:                                                                             `"max-concurrent-uploads"`,
		`{"max-download-attempts": 0}`:                                                                               `"max-download-attempts"`,
		`{"storage-opts": ["overlay.mount_program=/usr/bin/fuse-overlayfs"]}`:                                        "",
		`{"storage-opts": ["overlay"]}`:                                                                              `"storage-opts"`,
	} {
		c, err := Default("", env("XDG_RUNTIME_DIR", "/r", "HOME", "/h"))
		if err != nil {
			t.Fatal(err)
		}
		err = c.decode([]byte(text))
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is in the message: %v", err)
		}
	}
	c, err := Default("", env("XDG_RUNTIME_DIR", "/r", "HOME", "/h"))
	if err != nil || c.MaxDownloads != 3 || c.MaxUploads != 5 || c.MaxAttempts != 5 {
		t.Errorf("the defaults are not docker's: %+v %v", c.Images, err)
	}
}
