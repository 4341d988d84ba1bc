package config

import (
	"strings"
	"testing"
)

func TestAddressPools(t *testing.T) {
	for text, want := range map[string]string{
		`{"bip":"10.9.0.1/16","fixed-cidr":"10.9.4.0/24","default-address-pools":[{"base":"10.10.0.0/16","size":24},{"base":"fd00::/48","size":64}]}`: "",
		`{"fixed-cidr":"10.9.4.0/24"}`:                                                                    "",
		`{"fixed-cidr":"10.9.4.1/24"}`:                                                                    "is no IPv4 network",
		`{"fixed-cidr":"fd00::/64"}`:                                                                      "is no IPv4 network",
		`{"bip":"10.9.0.1/24","fixed-cidr":"10.9.4.0/24"}`:                                                "is not within bip",
		`{"bip":"10.9.0.1/16","fixed-cidr":"fd00::/64"}`:                                                  "is not within bip",
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

// Of the default bridge: what is set, and where nothing is, what the network chooses.
func TestBridgeSubnet(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "invalid Prefix, invalid Prefix",
		`{"default-address-pools":[{"base":"10.10.0.0/16","size":24}]}`: "invalid Prefix, invalid Prefix",
		`{"bip":"10.9.0.1/16","fixed-cidr":"10.9.4.0/24"}`:              "10.9.0.0/16, 10.9.4.0/24",
		`{"bip":"10.9.0.1/16"}`:                                         "10.9.0.0/16, invalid Prefix",
		`{"fixed-cidr":"10.9.4.0/24"}`:                                  "10.9.4.0/24, invalid Prefix",
	} {
		c, err := Default("", func(string) string { return "/x" })
		if err != nil {
			t.Fatal(err)
		}
		if err := c.decode([]byte(text)); err != nil {
			t.Fatal(err)
		}
		subnet, within := c.Subnet()
		if got := subnet.String() + ", " + within.String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
