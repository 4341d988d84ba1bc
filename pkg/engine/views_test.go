package engine_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestWhatCreateRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for name, c := range map[string]struct {
			change option
			class  moss.Class
			words  string
		}{
			"no image":          {func(q *moss.CreateRequest) { q.Config.Image = "nothere" }, moss.NotFound, "No such image: nothere:latest"},
			"another platform":  {func(q *moss.CreateRequest) { q.Platform = "linux/s390x" }, moss.NotFound, "linux/amd64"},
			"no command":        {func(q *moss.CreateRequest) { q.Config.Cmd = nil }, moss.Invalid, "no command specified"},
			"no network":        {func(q *moss.CreateRequest) { q.Host.NetworkMode = "mine" }, moss.Invalid, "network mine not found"},
			"bad policy":        {policy("sometimes", 0), moss.Invalid, "sometimes"},
			"retries of always": {policy(moss.RestartAlways, 3), moss.Invalid, "on-failure"},
			"retries of no":     {policy(moss.RestartNo, 3), moss.Invalid, "on-failure"},
			"negative retries":  {policy(moss.RestartOnFailure, -1), moss.Invalid, "negative"},
			"policy and rm":     {func(q *moss.CreateRequest) { autoRemove(q); policy(moss.RestartAlways, 0)(q) }, moss.Invalid, "AutoRemove"},
			"bad signal":        {func(q *moss.CreateRequest) { q.Config.StopSignal = "SIGNOSE" }, moss.Invalid, "SIGNOSE"},
			"no runtime":        {func(q *moss.CreateRequest) { q.Host.Runtime = "vm" }, moss.Invalid, "unknown or invalid runtime name: vm"},
			"no log driver":     {func(q *moss.CreateRequest) { q.Host.LogConfig.Driver = "paper" }, moss.Invalid, "paper"},
			"a volume at /":     {func(q *moss.CreateRequest) { q.Config.Volumes = []string{"/"} }, moss.Invalid, "invalid volume"},
		} {
			_, err := r.tryCreate(c.change)
			if err == nil || moss.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v, want class %s", name, err, c.class)
			}
		}
		r.checkEmpty()
	})
}

func TestWhatCreateWarnsOf(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		q := moss.CreateRequest{Platform: "linux", Config: moss.ContainerConfig{
			Image: "box", Cmd: []string{"true"}, Volumes: []string{"/data"}, Healthcheck: &moss.Healthcheck{Test: []string{"TCP", "80"}},
		}}
		q.Host.Mounts = []moss.MountPoint{{Type: moss.MountTmpfs, Target: "/data/"}}
		q.Host.NetworkMode = moss.NetworkHost
		published(&q)
		id, warnings, err := r.Containers().Create(t.Context(), q)
		r.must(err)
		if len(warnings) != 2 || !strings.Contains(warnings[0], "discarded") || !strings.Contains(warnings[1], "health check") {
			t.Errorf("%q", warnings)
		}
		r.start(id)
		if c := r.get(id); len(c.Network.Published) != 0 {
			t.Errorf("%+v", c.Network)
		}
	})
}

func TestPublishAll(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(published, func(q *moss.CreateRequest) {
			q.Host.PublishAll = true
			q.Config.ExposedPorts = []moss.Port{{Number: 80, Proto: moss.TCP}, {Number: 53, Proto: moss.UDP}}
		})
		var ports []uint16
		for _, p := range r.get(id).Network.Published {
			ports = append(ports, p.Binding.Port.Number)
		}
		if !slices.Equal(ports, []uint16{80, 53}) {
			t.Errorf("%v", ports)
		}
		second := r.create(published)
		r.wantClass(r.Containers().Start(t.Context(), string(second)), moss.Conflict)
		r.check()
	})
}

func TestList(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		web := r.run(named("web"), published, func(q *moss.CreateRequest) {
			q.Config.Labels = map[string]string{"tier": "front", "on": ""}
			q.Host.Mounts = []moss.MountPoint{{Type: moss.MountTmpfs, Target: "/t"}}
		})
		time.Sleep(time.Second)
		db := r.run(named("db"), func(q *moss.CreateRequest) {
			q.Host.NetworkMode = moss.NetworkNone
			q.Config.ExposedPorts = []moss.Port{{Number: 5432, Proto: moss.TCP}}
		})
		time.Sleep(time.Second)
		r.create(named("new"))
		r.exit(db, 3)
		for name, c := range map[string]struct {
			f    moss.ContainerFilter
			want string
		}{
			"running":           {moss.ContainerFilter{}, "web"},
			"all":               {moss.ContainerFilter{All: true}, "new db web"},
			"the last two":      {moss.ContainerFilter{Limit: 2}, "new db"},
			"by id":             {moss.ContainerFilter{All: true, IDs: []string{string(db)[:5]}}, "db"},
			"by name":           {moss.ContainerFilter{All: true, Names: []string{"^/?[wn]e"}}, "new web"},
			"by label":          {moss.ContainerFilter{All: true, Labels: []string{"tier=front", "on"}}, "web"},
			"by other label":    {moss.ContainerFilter{All: true, Labels: []string{"tier=back"}}, ""},
			"by state":          {moss.ContainerFilter{States: []moss.State{moss.StateExited, moss.StateCreated}}, "new db"},
			"by code":           {moss.ContainerFilter{ExitCodes: []int{3}}, "db"},
			"by code 0":         {moss.ContainerFilter{ExitCodes: []int{0}}, ""},
			"before":            {moss.ContainerFilter{Before: "db"}, "web"},
			"since":             {moss.ContainerFilter{Since: "web"}, "new db"},
			"by image":          {moss.ContainerFilter{All: true, Ancestors: []string{"box"}}, "new db web"},
			"by no image":       {moss.ContainerFilter{All: true, Ancestors: []string{"other"}}, ""},
			"by network":        {moss.ContainerFilter{All: true, Networks: []string{"none"}}, "db"},
			"by published":      {moss.ContainerFilter{All: true, Publish: []string{"80"}}, "web"},
			"by exposed":        {moss.ContainerFilter{All: true, Expose: []string{"5000-6000/tcp"}}, "db"},
			"by mount":          {moss.ContainerFilter{All: true, Volumes: []string{"/t"}}, "web"},
			"by network's id":   {moss.ContainerFilter{Networks: []string{string(r.get(web).Network.Network)[:12]}}, "web"},
			"two that conflict": {moss.ContainerFilter{All: true, Names: []string{"db"}, Volumes: []string{"/t"}}, ""},
		} {
			list, err := r.Views().List(c.f)
			var names []string
			for _, c := range list {
				names = append(names, c.Name)
			}
			if got := strings.Join(names, " "); err != nil || got != c.want {
				t.Errorf("%s: %q %v, want %q", name, got, err, c.want)
			}
		}
		_, err := r.Views().List(moss.ContainerFilter{Names: []string{"("}})
		r.wantClass(err, moss.Invalid)
		_, err = r.Views().List(moss.ContainerFilter{Since: "nobody"})
		r.wantClass(err, moss.NotFound)

		info, err := r.System().Info(t.Context())
		r.must(err)
		if info.Containers[moss.StateRunning] != 1 || info.Containers[moss.StateExited] != 1 || info.Containers[moss.StateCreated] != 1 || info.Images != 1 || info.Storage.Driver != "fake" {
			t.Errorf("%+v", info)
		}
		nets, err := r.Networking().List(t.Context())
		if err != nil || len(nets) != 3 {
			t.Errorf("%v %v", nets, err)
		}
	})
}

func TestImages(t *testing.T) {
	const name = "docker.io/library/box:latest"
	untagged, deleted := moss.ImageRemoval{Untagged: name}, moss.ImageRemoval{Deleted: imageID}
	for title, c := range map[string]struct {
		prepare func(r *rig)
		ref     string
		force   bool
		class   moss.Class
		want    []moss.ImageRemoval
	}{
		"by name":                      {ref: "box", want: []moss.ImageRemoval{untagged, deleted}},
		"by id":                        {ref: "1111", want: []moss.ImageRemoval{untagged, deleted}},
		"nothing":                      {ref: "nope", class: moss.NotFound},
		"one of two names":             {prepare: second, ref: "box", want: []moss.ImageRemoval{untagged}},
		"by a name of hex digits":      {prepare: func(r *rig) { r.must(r.ImageService().Tag(r.t.Context(), "box", "1111")) }, ref: "1111", want: []moss.ImageRemoval{{Untagged: "docker.io/library/1111:latest"}}},
		"by id of two names":           {prepare: second, ref: "1111", class: moss.Conflict},
		"by id of two names, by force": {prepare: second, ref: "1111", force: true, want: []moss.ImageRemoval{untagged, {Untagged: "docker.io/library/zwei:2"}, deleted}},
		"in use":                       {prepare: created, ref: "box", class: moss.Conflict},
		"in use, by force":             {prepare: created, ref: "box", force: true, want: []moss.ImageRemoval{untagged}},
		"in use, by id":                {prepare: created, ref: "1111", class: moss.Conflict},
		"in use, by id and force":      {prepare: created, ref: "1111", force: true, want: []moss.ImageRemoval{untagged}},
		"in use and running, by force": {prepare: running, ref: "box", force: true, want: []moss.ImageRemoval{untagged}},
		"in use and running, by id":    {prepare: running, ref: "1111", force: true, class: moss.Conflict},
		"in use, with a name to spare": {prepare: func(r *rig) { running(r); second(r) }, ref: "box", want: []moss.ImageRemoval{untagged}},
	} {
		t.Run(title, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				if c.prepare != nil {
					c.prepare(r)
				}
				got, err := r.ImageService().Remove(t.Context(), c.ref, c.force, false)
				if c.class != 0 {
					r.wantClass(err, c.class)
				} else {
					r.must(err)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("%+v, want %+v", got, c.want)
				}
				synctest.Wait()
			})
		})
	}
}

func second(r *rig) {
	r.must(r.ImageService().Tag(r.t.Context(), "box", "zwei:2"))
	if i, err := r.ImageService().Get(r.t.Context(), "zwei:2"); err != nil || i.ID != imageID {
		r.t.Errorf("%+v %v", i, err)
	}
}

func created(r *rig) { r.create() }
func running(r *rig) { r.run() }

func TestImagesThatComeWithMoss(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(func(q *moss.CreateRequest) { q.Config.Image, q.Config.Cmd = "moss/hello", nil })
		if c := r.get(id); c.Path != "/moss-hello" {
			t.Errorf("%+v", c)
		}
		_, err := r.ArchiveService().Load(t.Context(), strings.NewReader("not a tar"), moss.LoadOptions{}, func(moss.Progress) {})
		r.wantClass(err, moss.Invalid)
		_, err = r.ArchiveService().Import(t.Context(), strings.NewReader("not a tar"), moss.ImportOptions{})
		r.wantClass(err, moss.Invalid)
		images, err := r.ImageService().List(t.Context())
		if err != nil || len(images) != 2 {
			t.Errorf("%v %v", images, err)
		}
	})
}
