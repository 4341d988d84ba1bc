package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// refuseUnknown refuses a JSON object with members that t has no field for, at
// any depth, unless they say nothing (null, 0, "", false, {}, []): what a client
// asks for is never dropped in silence. body must be valid JSON that fits t.
func refuseUnknown(body []byte, t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if implementsUnmarshal(t) || bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return unknownMembers(body, t, path)
	case reflect.Slice:
		if !hasStruct(t.Elem()) {
			return nil
		}
		for _, item := range parts[[]json.RawMessage](body) {
			if err := refuseUnknown(item, t.Elem(), path+"[]"); err != nil {
				return err
			}
		}
	case reflect.Map:
		if !hasStruct(t.Elem()) {
			return nil
		}
		for k, item := range parts[map[string]json.RawMessage](body) {
			if err := refuseUnknown(item, t.Elem(), path+"["+k+"]"); err != nil {
				return err
			}
		}
	default: // has no members
	}
	return nil
}

// parts are those of a list or of an object; none where body is neither: the
// decoder has judged that already.
func parts[T any](body []byte) T {
	var none, out T
	if json.Unmarshal(body, &out) != nil {
		return none
	}
	return out
}

func unknownMembers(body []byte, t reflect.Type, path string) error {
	known := fieldsOf(t)
	for name, value := range parts[map[string]json.RawMessage](body) {
		if saysNothing(value) {
			continue
		}
		full := strings.TrimPrefix(path+"."+name, ".")
		field, ok := known[strings.ToLower(name)]
		if !ok {
			return moss.Errorf(moss.Invalid, "%s: no such field in API version %s: leave it out", full, MaxVersion)
		}
		if err := refuseUnknown(value, field, full); err != nil {
			return err
		}
	}
	return nil
}

// fieldsCache has the answers of fieldsOf: map[string]reflect.Type by reflect.Type.
var fieldsCache sync.Map

// fieldsOf are the types of the members that a struct is decoded from, by name
// in lower case: case does not count in encoding/json.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if known, ok := fieldsCache.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	known := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name := strings.ToLower(jsonName(f))
		if _, shadowed := known[name]; name != "" && !shadowed {
			known[name] = f.Type
		}
	}
	fieldsCache.Store(t, known)
	return known
}

// jsonName is the member that a field is decoded from; "" for none.
func jsonName(f reflect.StructField) string {
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case tag == "-" || !f.IsExported() || f.Anonymous && tag == "":
		return ""
	case tag != "":
		return tag
	}
	return f.Name
}

func hasStruct(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && t.NumField() > 0
}

func implementsUnmarshal(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]())
}

// saysNothing says whether a JSON value is what an unset field is sent as.
func saysNothing(value json.RawMessage) bool {
	if len(value) > 8 {
		return false // nothing is said in few words; a little white space is allowed for
	}
	switch string(bytes.Join(bytes.Fields(value), nil)) {
	case "null", "0", `""`, "false", "{}", "[]":
		return true
	}
	return false
}
