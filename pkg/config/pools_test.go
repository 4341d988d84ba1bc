package config

import (
	"strings"
	"testing"
)

func TestAddressPools(t *testing.T) {
	for text, want := range map[string]string{
		`{"bip":"10.9.0.1/16","fixed-cidr":"10.9.4.0/24","default-address-pools":[{"base":"10.10.0.0/16","size":24},{"base":"fd00::/48","size":64}]}`: "",
		`{"fixed-cidr":"10.9.4.0/24"}`:                                                                    "is not within bip",
		`{"default-address-pools":[{"base":"10.10.0.0/16","size":8}]}`:                                    "does not fit",
		`{"default-address-pools":[{"base":"10.10.0.0/16","size":24},{"base":"10.10.8.0/24","size":28}]}`: "overlap",
	} {
		c, err := Default("", func(string) string { return "/x" })
		if err != nil {
			t.Fatal(err)
		}
		err = c.decode([]byte(text))
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
