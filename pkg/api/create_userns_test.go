package api

import (
	"reflect"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestUserns(t *testing.T) {
	five, six := uint32(5), uint32(6)
	one := moss.IDMap{Container: 0, Engine: 100, Size: 10}
	for in, want := range map[string]moss.Userns{
		"":                    {},
		"host":                {},
		"keep-id":             {Mode: "keep-id"},
		"nomap":               {Mode: "nomap"},
		"auto":                {Mode: "auto"},
		"keep-id:uid=5,gid=6": {Mode: "keep-id", UID: &five, GID: &six},
		"auto:size=5":         {Mode: "auto", Size: 5},
		"map:uid=0:100:10":    {Mode: "map", Maps: moss.IDMaps{UIDs: []moss.IDMap{one}, GIDs: []moss.IDMap{one}}},
		"map:uid=0:100:10,gid=5:6:1,gid=0:100:10": {Mode: "map", Maps: moss.IDMaps{UIDs: []moss.IDMap{one}, GIDs: []moss.IDMap{{Container: 5, Engine: 6, Size: 1}, one}}},
	} {
		if got, err := parseUserns(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"what": "want host, keep-id", "private": "want host", "nomap:x=1": "want host", "auto:size=0": "is no option", "auto:uid=1": "is no option",
		"keep-id:uid=x": "is no number", "keep-id:size=1": "is no option", "map": "it has no uid=", "map:uid=1:2": "is not CONTAINER:ENGINE:SIZE", "map:uid=1:2:3:4": "is not CONTAINER:ENGINE:SIZE", "map:gid=0:1:1": "it has no uid=",
		"auto:size=99999999999": "is no number",
	} {
		if _, err := parseUserns(in); err == nil || moss.ClassOf(err) != moss.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}
