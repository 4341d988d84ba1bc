package main

import (
	"strings"
	"testing"
)

func TestPort(t *testing.T) {
	e := newEngine(t, map[string]string{"GET /containers/web/json": `{"Id":"1","NetworkSettings":{"Ports":{
		"443/tcp":null,"80/udp":[{"HostIp":"127.0.0.1","HostPort":"53"}],
		"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}}}`})
	for args, want := range map[string]string{
		"port web":                  "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n80/udp -> 127.0.0.1:53\n",
		"port web 80":               "0.0.0.0:8080\n[::]:8080\n",
		"container port web 80/udp": "127.0.0.1:53\n",
	} {
		if code, out, errs := run1(t, e.env, strings.Fields(args)...); code != 0 || out != want {
			t.Errorf("moss %s: %d, %q, %s; want %q", args, code, out, errs, want)
		}
	}
	for args, want := range map[string]string{"port web 443": "no public port '443/tcp' published for web", "port web x": "cannot use the port"} {
		if code, _, errs := run1(t, e.env, strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("moss %s: %d, %q; want %q", args, code, errs, want)
		}
	}
}
