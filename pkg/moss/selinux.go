package moss

import (
	"slices"
	"strings"
)

// SELinux are a container's SELinux labels; both empty where it has none.
type SELinux struct {
	Process string `json:",omitempty"`
	Mount   string `json:",omitempty"` // of its files
}

// The words of --security-opt label= that stand alone.
const (
	LabelDisable = "disable" // the process keeps the label of the user's own
	LabelNested  = "nested"  // it may label what is in it
)

// labelParts are the parts of a label that can be given; filetype is the type of the files.
var labelParts = []string{"user", "role", "type", "level", "filetype"}

// CheckLabelOption says whether a value of --security-opt label= can be meant.
func CheckLabelOption(o string) error {
	part, value, ok := strings.Cut(o, ":")
	if o == LabelDisable || o == LabelNested || ok && value != "" && slices.Contains(labelParts, part) {
		return nil
	}
	return Errorf(Invalid, "bad label option %q, valid options 'disable, nested' and 'user, role, type, level, filetype' followed by ':' and a value", o)
}
