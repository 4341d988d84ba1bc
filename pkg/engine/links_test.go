package engine_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/moss-containers/moss/pkg/moss"
)

func linked(links ...string) option {
	return func(q *moss.CreateRequest) {
		for _, s := range links {
			l, err := moss.ParseLink(s)
			if err != nil {
				panic(err)
			}
			q.Host.Links = append(q.Host.Links, l)
		}
	}
}

func addressOf(c moss.Container) netip.Addr { return c.Network.Address.Addr() }

func (r *rig) bundle(id moss.ContainerID) moss.Bundle {
	b, _ := r.runtime.Bundle(id)
	return b
}

func TestLinks(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		db := r.create(named("db"), func(q *moss.CreateRequest) {
			q.Config.Hostname, q.Config.Env = "dbhost", []string{"USER=me", "PATH=/bin", "HOME=/", "EMPTY="}
			q.Config.ExposedPorts = []moss.Port{{Number: 6380, Proto: moss.TCP}, {Number: 6379, Proto: moss.UDP}, {Number: 6379, Proto: moss.TCP}, {Number: 6381, Proto: moss.TCP}}
		})
		client := r.create(named("client"), linked("db:my-store", "db"))
		err := r.Containers().Start(t.Context(), "client")
		if r.wantClass(err, moss.Conflict); !strings.Contains(err.Error(), "Cannot link to a non running container: /db AS /client/my-store") {
			t.Error(err)
		}
		r.start(db)
		r.start(client)

		at := addressOf(r.get(db))
		env := r.bundle(client).Container.Config.Env
		for _, want := range []string{
			"MY_STORE_PORT=tcp://AT:6379", "MY_STORE_PORT_6379_TCP=tcp://AT:6379", "MY_STORE_PORT_6379_TCP_ADDR=AT", "MY_STORE_PORT_6379_TCP_PORT=6379",
			"MY_STORE_PORT_6379_TCP_PROTO=tcp", "MY_STORE_PORT_6379_UDP=udp://AT:6379", "MY_STORE_PORT_6380_TCP_START=tcp://AT:6380",
			"MY_STORE_PORT_6380_TCP_PORT_START=6380", "MY_STORE_PORT_6380_TCP_END=tcp://AT:6381", "MY_STORE_PORT_6380_TCP_PORT_END=6381",
			"MY_STORE_NAME=/client/my-store", "DB_NAME=/client/db", "MY_STORE_ENV_USER=me", "MY_STORE_ENV_EMPTY=",
		} {
			if want = strings.ReplaceAll(want, "AT", at.String()); !slices.Contains(env, want) {
				t.Errorf("environment lacks %q:\n%s", want, strings.Join(env, "\n"))
			}
		}
		if slices.ContainsFunc(env, func(s string) bool { return strings.Contains(s, "_ENV_PATH") || strings.Contains(s, "_ENV_HOME") }) {
			t.Error("the environment has what comes with images:", env)
		}
		want := func(at netip.Addr, names ...string) {
			t.Helper()
			for _, l := range r.bundle(client).Links {
				if slices.Equal(l.Names, names) {
					if !slices.Equal(l.Addresses, []netip.Addr{at}) {
						t.Errorf("%s is %v, want %v", names, l.Addresses, at)
					}
					return
				}
			}
			t.Errorf("no %q among %+v", names, r.bundle(client).Links)
		}
		want(at, "my-store", "dbhost", "db")
		want(at, "db", "dbhost")

		if got := r.get(client).LinkedTo; !slices.Equal(got, []string{"/db:/client/my-store", "/db:/client/db"}) {
			t.Errorf("linked to %q", got)
		}
		if list, err := r.Views().List(moss.ContainerFilter{Names: []string{"^client/my-store$"}}); err != nil || len(list) != 1 || list[0].ID != db ||
			!slices.Equal(list[0].LinkedAs, []string{"client/db", "client/my-store"}) {
			t.Errorf("by its link's name: %+v, %v", list, err)
		}

		// The linked one comes back elsewhere; the address it had is another's.
		r.must(r.stop(db))
		want(at, "db", "dbhost")
		other := r.run(named("other"))
		r.start(db)
		if moved := addressOf(r.get(db)); moved == at {
			t.Fatalf("db has its old address %s although another one came between", at)
		} else {
			want(moved, "my-store", "dbhost", "db")
			at = moved
		}

		// Names follow.
		r.must(r.Containers().Rename(t.Context(), "db", "base"))
		r.must(r.Containers().Rename(t.Context(), "client", "user"))
		if got := r.get(client).LinkedTo; !slices.Equal(got, []string{"/base:/user/my-store", "/base:/user/db"}) {
			t.Errorf("after renaming: linked to %q", got)
		}

		// A daemon that died between the two: the next one sees to it.
		r.reboot(false, nil)
		want(at, "my-store", "dbhost", "base")

		for ref, class := range map[string]moss.Class{"nosuch": moss.NotFound, "user/none": moss.NotFound, "/base": moss.Conflict} {
			r.wantClass(r.Containers().Unlink(t.Context(), ref), class)
		}
		r.must(r.Containers().Unlink(t.Context(), "/user/my-store"))
		r.wantClass(r.Containers().Unlink(t.Context(), "/user/my-store"), moss.NotFound)
		if got := r.get(client).LinkedTo; !slices.Equal(got, []string{"/base:/user/db"}) || len(r.bundle(client).Links) != 1 {
			t.Errorf("after unlinking: linked to %q, hosts %v", got, r.bundle(client).Links)
		}
		// One whose other end is gone leads nowhere, and stops nothing.
		r.must(r.remove(db, true))
		r.must(r.stop(client))
		r.start(client)
		if c := r.get(client); len(c.LinkedTo) > 0 || len(r.bundle(client).Links) > 0 {
			t.Errorf("linked to %q", c.LinkedTo)
		}
		for _, id := range []moss.ContainerID{client, other} {
			r.must(r.remove(id, true))
		}
		r.checkEmpty()
	})
}

func TestLinksRefused(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.create(named("db"))
		r.create(named("free"), func(q *moss.CreateRequest) { q.Host.NetworkMode = moss.NetworkHost })
		r.create(named("inside"), func(q *moss.CreateRequest) { q.Host.NetworkMode = moss.NetworkMode("container:db") })
		mode := func(m moss.NetworkMode) option { return func(q *moss.CreateRequest) { q.Host.NetworkMode = m } }
		for want, opts := range map[string][]option{
			"could not get container for nosuch: No such container: nosuch":                   {linked("nosuch:x")},
			"conflicting options: host type networking can't be used with links":              {linked("db"), mode(moss.NetworkHost)},
			"conflicting options: host type networking can't be used with links. This would ": {linked("free")},
			"conflicting options: container type network can't be used with links":            {linked("db"), mode("container:db")},
		} {
			if _, err := r.tryCreate(opts...); moss.ClassOf(err) != moss.Invalid || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
		q := moss.CreateRequest{Name: "none", Config: moss.ContainerConfig{Image: "box", Cmd: []string{"x"}}}
		linked("db")(&q)
		mode(moss.NetworkNone)(&q)
		if _, warnings, err := r.Containers().Create(t.Context(), q); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "Links are discarded") {
			t.Error(warnings, err)
		}
		// A link to one that lives in another's network is one to that.
		r.create(named("client"), linked("inside:it"))
		if c, err := r.Views().Get("client/it"); err != nil || c.Name != "db" {
			t.Errorf("client/it is %q, %v", c.Name, err)
		}
	})
}

// Of two that start side by side, the one with the link has the other's address in the end.
func TestLinksSideBySide(t *testing.T) {
	for range 20 {
		bubble(t, func(t *testing.T, r *rig) {
			db := r.run(named("db"))
			client := r.run(named("client"), linked("db"))
			other := r.create(named("other"))
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = r.Containers().Restart(t.Context(), "client", moss.StopOptions{}) // refused while db is down
			}()
			_ = r.stop(db)
			r.start(other)
			r.start(db)
			<-done
			synctest.Wait()
			if c := r.get(client); c.State == moss.StateRunning {
				if got := r.bundle(client).Links; len(got) != 1 || !slices.Equal(got[0].Addresses, []netip.Addr{addressOf(r.get(db))}) {
					t.Errorf("db is %s, and known as %+v", addressOf(r.get(db)), got)
				}
			}
		})
	}
}
