package porttest

import (
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// RegistriesFixture is a registry that asks for credentials.
type RegistriesFixture struct {
	Registries engine.Registries
	Registry   Registry
	Good       moss.Credentials
	// Offer makes searches find a repository.
	Offer func(t *testing.T, repo string)
}

// Registries tests an [engine.Registries].
func Registries(t *testing.T, open func(t *testing.T) RegistriesFixture) {
	t.Run("login", func(t *testing.T) {
		f := open(t)
		got, err := f.Registries.Login(t.Context(), f.Good)
		must(t, err)
		if got.Status != "Login Succeeded" {
			t.Errorf("Login gives %+v", got)
		}
		for _, password := range []string{"", "wrong"} {
			bad := f.Good
			bad.Password = password
			if _, err := f.Registries.Login(t.Context(), bad); moss.ClassOf(err) != moss.Unauthorized {
				t.Errorf("Login with a wrong password is %v", err)
			}
		}
	})
	t.Run("search", func(t *testing.T) { registriesSearch(t, open(t)) })
	t.Run("distribution", func(t *testing.T) {
		f := open(t)
		single := Publish(t, f.Registry, "box", "1", busybox)
		arm := other
		arm.Architecture = "arm64"
		index := PublishIndex(t, f.Registry, "box", "2", busybox, arm)
		name := f.Registry.Host() + "/box"
		for ref, want := range map[string]moss.Distribution{
			name + ":1":        {MediaType: typeManifest, Digest: single, Platforms: []string{"linux/amd64"}},
			name + "@" + index: {MediaType: typeIndex, Digest: index, Platforms: []string{"linux/amd64", "linux/arm64"}},
			name + ":2":        {MediaType: typeIndex, Digest: index, Platforms: []string{"linux/amd64", "linux/arm64"}},
		} {
			got, err := f.Registries.Distribution(t.Context(), ref, f.Good)
			must(t, err)
			if got.MediaType != want.MediaType || got.Digest != want.Digest || !slices.Equal(got.Platforms, want.Platforms) || got.Size != int64(len(f.Registry.Manifest(t, "box", want.Digest))) {
				t.Errorf("Distribution of %s is %+v, want %+v", ref, got, want)
			}
		}
		if _, err := f.Registries.Distribution(t.Context(), name+":3", f.Good); moss.ClassOf(err) != moss.NotFound {
			t.Errorf("Distribution of nothing is %v", err)
		}
		if _, err := f.Registries.Distribution(t.Context(), name+":1", moss.Credentials{}); moss.ClassOf(err) != moss.Unauthorized {
			t.Errorf("Distribution without credentials is %v", err)
		}
	})
}

func registriesSearch(t *testing.T, f RegistriesFixture) {
	for _, repo := range []string{"some/box", "some/other", "elsewhere"} {
		f.Offer(t, repo)
	}
	host, yes := f.Registry.Host(), true
	for _, c := range []struct {
		q    moss.SearchQuery
		want []string
	}{
		{moss.SearchQuery{Term: host + "/some"}, []string{host + "/some/box", host + "/some/other"}},
		{moss.SearchQuery{Term: host + "/box", Limit: 100}, []string{host + "/some/box"}},
		{moss.SearchQuery{Term: host + "/none"}, nil},
		{moss.SearchQuery{Term: host + "/some", Stars: 1}, nil},
		{moss.SearchQuery{Term: host + "/some", Official: &yes}, nil},
		{moss.SearchQuery{Term: host + "/some", Automated: &yes}, nil},
	} {
		c.q.Credentials = f.Good
		got, err := f.Registries.Search(t.Context(), c.q)
		var names []string
		for _, r := range got {
			names = append(names, r.Name)
		}
		if slices.Sort(names); err != nil || !slices.Equal(names, c.want) {
			t.Errorf("Search for %+v finds %q, %v; want %q", c.q, names, err, c.want)
		}
	}
	if got, err := f.Registries.Search(t.Context(), moss.SearchQuery{Term: host + "/some", Limit: 1, Credentials: f.Good}); err != nil || len(got) != 1 {
		t.Errorf("Search for one finds %+v, %v", got, err)
	}
	for _, q := range []moss.SearchQuery{{Term: host + "/x", Limit: 101}, {Term: host + "/x", Limit: -1}, {Term: "https://" + host + "/x"}} {
		q.Credentials = f.Good
		if got, err := f.Registries.Search(t.Context(), q); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("Search for %+v is %+v, %v; want invalid", q, got, err)
		}
	}
	if got, err := f.Registries.Search(t.Context(), moss.SearchQuery{Term: host + "/some"}); moss.ClassOf(err) != moss.Unauthorized {
		t.Errorf("Search without credentials is %+v, %v", got, err)
	}
}
