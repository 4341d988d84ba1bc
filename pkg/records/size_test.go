package records

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// fillAll sets all that a record may have, down to a depth, to something else than nothing.
func fillAll(v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)
		return
	case *netip.Addr:
		*x = netip.MustParseAddr("10.0.0.1")
		return
	case *netip.Prefix:
		*x = netip.MustParsePrefix("10.0.0.1/8")
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
				fillAll(v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillAll(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillAll(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillAll(key)
		fillAll(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7)
	default: // what a record has none of
		panic(v.Type().String())
	}
}

// What is not set is not in a record, of which a start reads a thousand; what is set is, also to nothing.
func TestRecordHasWhatIsSet(t *testing.T) {
	var full moss.Container
	fillAll(reflect.ValueOf(&full).Elem())
	empty := moss.Container{
		Args: []string{}, Endpoints: map[string]moss.Endpoint{}, Mounts: []moss.MountPoint{}, Network: &moss.Attachment{},
		Config: moss.ContainerConfig{Env: []string{}, Labels: map[string]string{}, Healthcheck: &moss.Healthcheck{}},
	}
	for _, c := range []*moss.Container{{}, &full, &empty} {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var again moss.Container
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&again, c) {
			t.Errorf("%s is read back as\n%+v, not\n%+v", b, again, *c)
		}
	}
	if b, err := json.Marshal(&moss.Container{ID: "a"}); err != nil || string(b) != `{"ID":"a"}` {
		t.Errorf("nothing but an id is %s, %v", b, err)
	}
}

func BenchmarkDecode(b *testing.B) {
	value, err := json.Marshal(&moss.Container{
		ID: moss.ContainerID(strings.Repeat("a", 64)), Name: "name", Created: time.Now(), Image: moss.ImageID("sha256:" + strings.Repeat("b", 64)), ImageRef: "busybox", Path: "true", State: moss.StateExited,
		Config: moss.ContainerConfig{Hostname: "aaaaaaaaaaaa", Env: []string{"PATH=/bin"}, Cmd: []string{"true"}, Image: "busybox"}, Host: moss.HostConfig{NetworkMode: "none"},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		if _, err := decode([]byte(strings.Repeat("a", 64)), value); err != nil {
			b.Fatal(err)
		}
	}
}
