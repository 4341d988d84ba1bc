package otlp

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxWords is how much of a collector's words is passed on, in bytes.
const maxWords = 512

// partial reads what a collector says that has taken a batch
// (ExportTraceServiceResponse): nil where it has taken all of it.
func partial(media string, body []byte) error {
	var e PartialError
	if isJSON(media) {
		var answer struct {
			Partial struct {
				Rejected json.RawMessage `json:"rejectedSpans"` // a string by protobuf's rules, a number as some write it
				Message  string          `json:"errorMessage"`
			} `json:"partialSuccess"`
		}
		if json.Unmarshal(body, &answer) != nil {
			return nil //nolint:nilerr // who says nothing that can be read has nothing against it
		}
		e.Message = answer.Partial.Message
		_ = json.Unmarshal([]byte(strings.Trim(string(answer.Partial.Rejected), `"`)), &e.Rejected)
	} else {
		in, _ := fields(body)[1].(string)
		said := fields([]byte(in))
		n, _ := said[1].(uint64)
		e.Rejected = int64(n)
		e.Message, _ = said[2].(string)
	}
	if e.Rejected == 0 && e.Message == "" {
		return nil
	}
	e.Message = few(e.Message)
	return &e
}

// refused tells of an answer that is an error: a google.rpc.Status, if the
// collector keeps to the specification, else what it says.
func refused(res *http.Response, body []byte) error {
	words := string(body)
	switch media := res.Header.Get("Content-Type"); {
	case isJSON(media):
		var status struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(body, &status) == nil && status.Message != "" {
			words = status.Message
		}
	case strings.HasPrefix(media, protobufType):
		words, _ = fields(body)[2].(string)
	case strings.HasPrefix(media, "text/html"):
		words = "" // for people with browsers
	}
	if words = few(words); words != "" {
		words = ": " + words
	}
	if to := res.Header.Get("Location"); res.StatusCode/100 == 3 && to != "" {
		words = ": it is at " + few(to) + ", which the endpoint has to name"
	}
	return fmt.Errorf("the collector answered %s%s", res.Status, words)
}

func isJSON(media string) bool {
	m, _, err := mime.ParseMediaType(media)
	return err == nil && m == jsonType
}

// few is a text for a line of the log.
func few(text string) string {
	if len(text) > maxWords {
		text = text[:maxWords] + "…"
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
}

// fields are a message's numbers and strings by their number; what cannot be
// read ends them.
func fields(b []byte) map[protowire.Number]any {
	all := map[protowire.Number]any{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				all[number] = v
			}
		case protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				all[number] = string(v)
			}
		case protowire.Fixed32Type, protowire.Fixed64Type, protowire.StartGroupType, protowire.EndGroupType:
			n = protowire.ConsumeFieldValue(number, kind, b)
		default:
			n = -1
		}
		if n < 0 {
			break
		}
		b = b[n:]
	}
	return all
}
