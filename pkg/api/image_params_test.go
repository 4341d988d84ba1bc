package api

import (
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	authMe   = "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJwPz4ifQ==" // me, p?>
	armJSON  = `{"os":"linux","architecture":"arm","variant":"v7"}`
	amd      = `{"os":"linux","architecture":"amd64"}`
	jsonType = "application/json"
)

var me = moss.Credentials{Username: "me", Password: "p?>"}

// paramCase is one request of the image side: what it asks the service for, or
// the status and the words it is refused with.
type paramCase struct {
	method, path, auth, body string
	asks                     any // nil: the service is not reached
	status                   int
	text                     string
}

// TestImageParameters walks the parameters of every route of the image side:
// each reaches the service or is refused.
func TestImageParameters(t *testing.T) {
	s, w := newFake()
	s.now = func() time.Time { return noon }
	for _, tc := range append(append(append(pullCases(), pushCases()...), archiveCases()...), localCases()...) {
		r := httptest.NewRequestWithContext(t.Context(), tc.method, strings.NewReplacer(" ", "%20", "{", "%7B", "}", "%7D", `"`, "%22").Replace(tc.path), strings.NewReader(tc.body))
		if tc.auth != "" {
			r.Header.Set(registry.AuthHeader, tc.auth)
		}
		if strings.HasPrefix(tc.body, "{") || tc.body == "null" {
			r.Header.Set("Content-Type", jsonType)
		}
		got := httptest.NewRecorder()
		s.ServeHTTP(got, r)
		asked := w.lastAsked()
		if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.text) {
			t.Errorf("%s %s: %d %s\nwant %d %s", tc.method, tc.path, got.Code, got.Body, tc.status, tc.text)
		}
		if !reflect.DeepEqual(asked, tc.asks) {
			t.Errorf("%s %s asks for\n%+v\nwant\n%+v", tc.method, tc.path, asked, tc.asks)
		}
	}
}

func pullCases() []paramCase {
	const c = "/images/create?"
	sha := "sha256:" + ones
	pull := func(ref string) moss.PullRequest { return moss.PullRequest{Ref: "docker.io/library/" + ref} }
	imported := moss.ImportOptions{Message: "Imported from -"}
	return []paramCase{
		{post, c, "", "", nil, 400, "neither fromImage nor fromSrc"},
		{post, c + "fromImage=busybox&tag=1", "", "", pull("busybox:1"), 200, `{"status":"Pulling from library/busybox","id":"1"}`},
		{post, c + "fromImage=busybox:1", "", "", pull("busybox:1"), 200, ""},
		{post, c + "fromImage=busybox:1&tag=2", "", "", pull("busybox:2"), 200, ""},
		{post, c + "fromImage=busybox", "", "", moss.PullRequest{Ref: "docker.io/library/busybox", All: true}, 200, ""},
		{post, c + "fromImage=busybox:", "", "", moss.PullRequest{Ref: "docker.io/library/busybox", All: true}, 200, ""},
		{post, c + "fromImage=busybox&tag=" + sha, "", "", pull("busybox@" + sha), 200, ""},
		{post, c + "fromImage=busybox:1@" + sha + "&tag=2", "", "", pull("busybox@" + sha), 200, ""},
		{post, c + "fromImage=busybox&tag=1&platform=linux/arm/v7", "", "", moss.PullRequest{Ref: "docker.io/library/busybox:1", Platform: "linux/arm/v7"}, 200, ""},
		{post, c + "fromImage=busybox&tag=1&platform=a/b/c/d", "", "", nil, 400, "invalid platform"},
		{post, c + "fromImage=busybox&tag=1", authMe, "", moss.PullRequest{Ref: "docker.io/library/busybox:1", Credentials: me}, 200, ""},
		{post, c + "fromImage=busybox&tag=1", "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJwPz4ifQ", "", moss.PullRequest{Ref: "docker.io/library/busybox:1", Credentials: me}, 200, ""},
		{post, c + "fromImage=busybox&tag=1", "bnVsbA==", "", pull("busybox:1"), 200, ""},
		{post, c + "fromImage=busybox&tag=1", "!!", "", nil, 400, "invalid X-Registry-Auth header: illegal base64"},
		{post, c + "fromImage=busybox&tag=1", "WzFd", "", nil, 400, "invalid X-Registry-Auth header: json"},
		{post, c + "fromImage=busybox&tag=1", "eyJhdXRoIjoieCJ9", "", nil, 400, "invalid auth"},
		{post, c + "fromImage=busybox&tag=1", "eyJpZGVudGl0eXRva2VuIjoiaSIsInJlZ2lzdHJ5dG9rZW4iOiJyIiwic2VydmVyYWRkcmVzcyI6InMifQ", "", moss.PullRequest{
			Ref: "docker.io/library/busybox:1", Credentials: moss.Credentials{IdentityToken: "i", RegistryToken: "r", ServerAddress: "s"},
		}, 200, ""},
		{post, c + "fromImage=BAD", "", "", nil, 400, "must be lowercase"},
		{post, c + "fromImage=busybox&tag=-", "", "", nil, 400, "invalid tag format"},
		{post, c + "fromImage=scratch", "", "", nil, 403, "'scratch' is a reserved name"},
		{post, c + "fromImage=busybox&tag=1&fromSrc=-", "", "", nil, 400, "conflicting options: fromSrc"},
		{post, c + "fromImage=busybox&tag=1&repo=a", "", "", nil, 400, "conflicting options: repo"},
		{post, c + "fromImage=busybox&tag=1&message=a", "", "", nil, 400, "conflicting options: message"},
		{post, c + "fromImage=busybox&tag=1&changes=a", "", "", nil, 400, "conflicting options: changes"},
		{post, c + "fromImage=other&tag=1", "", "", pull("other:1"), 404, `{"message":"manifest for other:1 not found: manifest unknown: manifest unknown"}`},
		{post, c + "fromImage=secret&tag=1", "", "", pull("secret:1"), 401, "authentication required"},
		{post, c + "fromImage=late&tag=1", "", "", pull("late:1"), 200, `{"errorDetail":{"code":503,"message":"the network is down"},"error":"the network is down"}`},
		{post, "/v1.51" + c + "fromImage=busybox&tag=1", "", "", pull("busybox:1"), 200, `"progress":"[==================================================>] 1kB/1kB"`},

		{post, c + "fromSrc=-", "", "tar", imported, 200, `{"status":"sha256:imported"}`},
		{post, c + "fromSrc=-&repo=a&tag=b&message=m&changes=CMD x&changes=ENV a=b&platform=linux/arm/v7", "", "tar", moss.ImportOptions{
			Reference: "docker.io/library/a:b", Message: "m", Changes: []string{"CMD x", "ENV a=b"}, OS: "linux", Architecture: "arm", Variant: "v7",
		}, 200, ""},
		{post, c + "fromSrc=-&repo=a@" + sha, "", "tar", nil, 400, "refusing to create a tag with a digest reference"},
		{post, c + "fromSrc=-&repo=sha256", "", "tar", nil, 400, "refusing to create an ambiguous tag"},
		{post, c + "fromSrc=-&repo=a&tag=-", "", "tar", nil, 400, "invalid tag format"},
		{post, c + "fromSrc=-&platform=a/b/c/d", "", "tar", nil, 400, "invalid platform"},
	}
}

func pushCases() []paramCase {
	push := func(ref string) moss.PushRequest { return moss.PushRequest{Ref: ref, Credentials: me} }
	all := push("registry.example.com/a/b")
	all.All = true
	arm := push("registry.example.com/a/b:1")
	arm.Platform = "linux/arm/v7"
	const b = "/images/registry.example.com/a/b/push"
	return []paramCase{
		{post, b, authMe, "", all, 200, `{"progressDetail":{},"aux":{"Tag":"latest","Digest":"sha256:` + ones + `","Size":528}}`},
		{post, b + "?tag=1", authMe, "", push("registry.example.com/a/b:1"), 200, "The push refers to repository"},
		{post, "/images/registry.example.com/a/b:1/push", authMe, "", push("registry.example.com/a/b:1"), 200, ""},
		{post, b + "?tag=1&platform=" + armJSON, authMe, "", arm, 200, ""},
		{post, "/v1.45" + b + "?tag=1&platform=linux/arm", authMe, "", push("registry.example.com/a/b:1"), 200, ""},
		{post, b + "?tag=1&platform=linux/arm", authMe, "", nil, 400, "failed to parse platform"},
		{post, b + `?tag=1&platform={"variant":"v7"}`, authMe, "", nil, 400, "OS and Architecture are missing"},
		{post, b + `?tag=1&platform={"os":"linux"}`, authMe, "", nil, 400, "both OS and Architecture must be provided"},
		{post, b + `?tag=1&platform={"os":"linux","architecture":"arm","os.version":"1"}`, authMe, "", nil, 501, "os.version"},
		{post, b + "?tag=1", "", `{"username":"me","password":"p?>"}`, push("registry.example.com/a/b:1"), 200, ""},
		{post, b + "?tag=1", "", `{`, nil, 400, "bad parameters and missing X-Registry-Auth"},
		{post, b + "?tag=1", "", `{}`, moss.PushRequest{Ref: "registry.example.com/a/b:1"}, 401, "authentication required"},
		{post, b + "?tag=1", "!", "", nil, 400, "invalid X-Registry-Auth header"},
		{post, "/images/a@sha256:" + ones + "/push", authMe, "", nil, 400, "cannot push a digest reference"},
		{post, "/images/A/push", authMe, "", nil, 400, "must be lowercase"},

		{post, "/auth", "", `{"username":"me","password":"right","serveraddress":"s","email":"e","identitytoken":"i","registrytoken":"r"}`, moss.Credentials{
			Username: "me", Password: "right", ServerAddress: "s", IdentityToken: "i", RegistryToken: "r",
		}, 200, `{"IdentityToken":"token","Status":"Login Succeeded"}`},
		{post, "/auth", "", `{"username":"me","password":"x"}`, moss.Credentials{Username: "me", Password: "x"}, 401, "incorrect username or password"},
		{post, "/auth", "", `{"user":"me"}`, nil, 400, "user: no such field"},
		{post, "/auth", "", `null`, nil, 400, "no credentials"},

		{get, "/images/search?term=busy", "", "", moss.SearchQuery{Term: "busy"}, 200, `[{"star_count":3,"is_official":true,"name":"busybox","is_automated":false,"description":"small"}]`},
		{get, `/images/search?term=busy&limit=7&filters={"stars":["2","5"],"is-official":["true"],"is-automated":["false"]}`, authMe, "", moss.SearchQuery{
			Term: "busy", Limit: 7, Stars: 5, Official: new(true), Automated: new(false), Credentials: me,
		}, 200, ""},
		{get, "/images/search", "", "", nil, 400, "no term"},
		{get, "/images/search?term=http://x", "", "", nil, 400, "should not have a scheme"},
		{get, "/images/search?term=x&limit=101", "", "", nil, 400, "outside the range of [1, 100]"},
		{get, "/images/search?term=x&limit=-1", "", "", nil, 400, "outside the range of [1, 100]"},
		{get, "/images/search?term=x&limit=y", "", "", nil, 400, "not a whole number"},
		{get, `/images/search?term=x&filters={"stars":["y"]}`, "", "", nil, 400, "invalid filter 'stars=y'"},
		{get, `/images/search?term=x&filters={"is-official":["y"]}`, "", "", nil, 400, "invalid filter 'is-official=y'"},
		{get, `/images/search?term=x&filters={"y":["y"]}`, "", "", nil, 400, "invalid filter 'y'"},
		{get, "/images/search?term=x", "!", "", nil, 400, "invalid X-Registry-Auth header"},

		{get, "/distribution/a/b/json", authMe, "", distributionAsked{"docker.io/a/b:latest", me}, 200, `{"Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json"`},
		{get, "/distribution/a@sha256:" + ones + "/json", "", "", distributionAsked{"docker.io/library/a@sha256:" + ones, moss.Credentials{}}, 200, `"Platforms":[{"architecture":"amd64","os":"linux"},{"architecture":"arm","os":"linux","variant":"v7"}]`},
		{get, "/distribution/" + ones + "/json", "", "", nil, 400, "full image ID"},
		{get, "/distribution/A/json", "", "", nil, 400, "must be lowercase"},
		{get, "/distribution/a/json", "!", "", nil, 400, "invalid X-Registry-Auth header"},
		{get, "/v1.29/distribution/a/json", "", "", nil, 404, "needs API version 1.30"},
	}
}

func archiveCases() []paramCase {
	several := "platform=" + armJSON + "&platform=" + amd
	return []paramCase{
		{post, "/images/load", "", "good", moss.LoadOptions{}, 200, `{"stream":"Loaded image: busybox:latest\n"}`},
		{post, "/images/load?quiet=0&platform=" + armJSON, "", "good", moss.LoadOptions{Platform: "linux/arm/v7"}, 200, `{"status":"layer 1"}`},
		{post, "/images/load?platform=linux", "", "good", nil, 400, "failed to parse platform"},
		{post, "/images/load?" + several, "", "good", nil, 501, "several platforms at once"},
		{get, "/images/get?names=a&names=b:c", "", "", moss.SaveRequest{Refs: []string{"a", "b:c"}}, 200, "the tar of a b:c"},
		{get, "/images/a/b/get?platform=" + armJSON, "", "", moss.SaveRequest{Refs: []string{"a/b"}, Platform: "linux/arm/v7"}, 200, "the tar of a/b"},
		{get, "/images/get", "", "", nil, 400, "no image is named"},
		{get, "/images/get?names=a&" + several, "", "", nil, 501, "several platforms at once"},
		{get, "/images/none/get", "", "", moss.SaveRequest{Refs: []string{"none"}}, 404, `{"message":"No such image: none"}`},
		{get, "/containers/c/export", "", "", "c", 200, "the tree of c"},
		{get, "/containers/broken/export", "", "", "broken", 500, `{"message":"the disk is broken"}`},
		{get, "/images/a/b/attestations?type=t&type=u&platform=" + armJSON, "", "", attestationsAsked{"a/b", "linux/arm/v7", "t u"}, 200, "[]"},
		{get, "/images/busybox/attestations", "", "", attestationsAsked{ref: "busybox"}, 200, `"size":13},"PredicateType":"https://slsa.dev/provenance/v1"}]`},
		{get, "/images/busybox/attestations?statement=1", "", "", attestationsAsked{ref: "busybox"}, 200, `"Statement":{"_type":"s"}`},
		{get, "/images/a/attestations?" + several, "", "", nil, 501, "several platforms at once"},
		{get, "/images/a/attestations?platform=x", "", "", nil, 400, "failed to parse platform"},
		{get, "/v1.54/images/a/attestations", "", "", nil, 404, "needs API version 1.55"},
	}
}

func localCases() []paramCase {
	commit := func(change func(*moss.CommitRequest)) moss.CommitRequest {
		r := moss.CommitRequest{Container: "c", Pause: true}
		change(&r)
		return r
	}
	plain := commit(func(*moss.CommitRequest) {})
	other := `/json?platform={"os":"linux","architecture":"arm64"}`
	return []paramCase{
		{get, "/images/json?manifests=1", "", "", nil, 200, `"Manifests":[{"ID":"sha256:` + ones},
		{get, "/images/json?shared-size=1", "", "", "usage", 200, `"SharedSize":21`},
		{get, "/images/json?manifests=1&identity=1", "", "", nil, 200, `"Identity":{"Pull":[{"Repository":"docker.io/library/busybox"}]}`},
		{get, `/images/json?filters={"until":["2023-06-01"]}`, "", "", nil, 200, `"Id":"sha256:dd"`},
		{get, `/images/json?filters={"until":["x"]}`, "", "", nil, 400, "invalid filter 'until=x'"},
		{get, "/images/busybox/json?manifests=1", "", "", nil, 200, `"Manifests":[{"ID":"sha256:` + ones},
		{get, "/images/busybox/json?manifests=1&platform=" + amd, "", "", nil, 400, "manifests and platform options cannot both be set"},
		{get, "/images/busybox/json?platform=" + amd, "", "", nil, 200, `"Architecture":"amd64"`},
		{get, "/images/busybox" + other, "", "", nil, 404, "image with reference busybox was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)"},
		{get, "/images/busybox/json?platform=x", "", "", nil, 400, "failed to parse platform"},
		{get, `/images/busybox/history?platform={"os":"linux","architecture":"arm64"}`, "", "", nil, 404, "does not match"},
		{get, "/images/busybox/history?platform=" + amd, "", "", nil, 200, `"CreatedBy":"ADD file"`},
		{post, "/images/busybox/tag?repo=a@sha256:" + ones, "", "", nil, 400, "refusing to create a tag with a digest reference"},
		{post, "/images/busybox/tag?repo=sha256&tag=x", "", "", nil, 400, "refusing to create an ambiguous tag using digest algorithm as name"},
		{post, "/images/busybox/tag", "", "", nil, 400, "no repo given"},
		{post, "/images/busybox/tag?repo=a", "", "", [2]string{"busybox", "docker.io/library/a:latest"}, 201, ""},
		{del, "/images/busybox", "", "", removeAsked{"busybox", false, true}, 200, `[{"Untagged":"busybox:latest"},{"Deleted":"sha256:`},
		{del, "/images/busybox?force=1&noprune=1&platforms=" + amd, "", "", removeAsked{"busybox", true, false}, 200, ""},
		{del, "/images/busybox?platforms=" + armJSON, "", "", nil, 404, "does not match"},
		{del, "/images/busybox?platforms=" + armJSON + "&platforms=" + amd, "", "", nil, 501, "several platforms at once"},
		{del, "/images/%20", "", "", nil, 400, "image name cannot be blank"},

		{post, "/images/prune", "", "", moss.ImageFilter{Dangling: new(true)}, 200, `{"ImagesDeleted":null,"SpaceReclaimed":0}`},
		{post, `/images/prune?filters={"dangling":["false"],"label":["a","b=c"],"label!":["d"],"until":["1h"]}`, "", "", moss.ImageFilter{
			Dangling: new(false), Labels: []string{"a", "b=c"}, NotLabel: []string{"d"}, Until: noon.Add(-time.Hour),
		}, 200, `"SpaceReclaimed":4321`},
		{post, `/images/prune?filters={"dangling":["x"]}`, "", "", nil, 400, "invalid filter 'dangling=x'"},
		{post, `/images/prune?filters={"until":["1h","2h"]}`, "", "", nil, 400, "invalid filter 'until=1h 2h'"},
		{post, `/images/prune?filters={"name":["x"]}`, "", "", nil, 400, "invalid filter 'name'"},

		{post, "/commit?container=c", "", "", plain, 201, `{"Id":"sha256:committed"}`},
		{post, "/commit?container=c", "", "null", plain, 201, ""},
		{post, "/commit?container=c", "", "{}", plain, 201, ""},
		{post, "/commit?container=c&repo=a/b&tag=t&comment=why&author=me&changes=CMD x&changes=USER y&pause=0", "", "", moss.CommitRequest{
			Container: "c", Reference: "docker.io/a/b:t", Message: "why", Author: "me", Changes: []string{"CMD x", "USER y"},
		}, 201, ""},
		{post, "/commit?container=c", "", `{"Cmd":"one","User":"u","ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","x"]},"StopSignal":"INT"}`, commit(func(r *moss.CommitRequest) {
			r.Config = &moss.ContainerConfig{
				Cmd: []string{"one"}, User: "u", ExposedPorts: []moss.Port{{Number: 80, Proto: moss.TCP}}, StopSignal: "INT", Healthcheck: &moss.Healthcheck{Test: []string{"CMD", "x"}},
			}
		}), 201, ""},
		{post, "/commit", "", "", nil, 400, "no container is named"},
		{post, "/commit?container=nobody", "", "", moss.CommitRequest{Container: "nobody", Pause: true}, 404, "No such container: nobody"},
		{post, "/commit?container=c&tag=t", "", "", nil, 400, "a tag is given without a repo"},
		{post, "/commit?container=c&repo=A", "", "", nil, 400, "must be lowercase"},
		{post, "/commit?container=c", "", `{"HostConfig":{"Memory":1}}`, nil, 400, "HostConfig: no such field"},
		{post, "/commit?container=c", "", `{"NetworkDisabled":true}`, nil, 501, "NetworkDisabled"},
		{post, "/commit?container=c", "", `{"ArgsEscaped":true}`, nil, 501, "ArgsEscaped"},
		{post, "/commit?container=c", "", `{"StopSignal":"NO"}`, nil, 400, "invalid signal"},
		{post, "/commit?container=c", "", `{"Env":["=x"]}`, nil, 400, "invalid environment variable"},

		{get, "/system/df", "", "", "usage", 200, `"VolumeUsage":{"ActiveCount":1,"TotalCount":1,"TotalSize":5}`},
		{get, "/system/df?type=image", "", "", "usage", 200, `{"ImageUsage":{"ActiveCount":1,"Reclaimable":950,"TotalCount":2,"TotalSize":6050}}`},
		{get, "/system/df?type=volume&type=build-cache", "", "", nil, 200, `{"BuildCacheUsage":{},"VolumeUsage":{"ActiveCount":1,"TotalCount":1,"TotalSize":5}}`},
		{get, "/system/df?type=image&verbose=1", "", "", "usage", 200, `"Items":[{"Containers":1`},
		{get, "/v1.51/system/df?type=volume", "", "", nil, 200, `{"BuildCache":null,"Containers":null,"Images":null,"LayersSize":0,"Volumes":[{"CreatedAt"`},
		{get, "/system/df?type=x", "", "", nil, 400, "unknown object type: x"},
	}
}
