package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"

	"github.com/opencontainers/runc/libcontainer/configs"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

// Which program a profile has takes longer to find out than all else that is
// done about seccomp at a start: libcontainer builds the filter, call by call,
// for its key. So what stands in for a profile, which has the key, is kept under
// the profile's text.

// standInMagic begins what is kept of a profile. A change of the format changes it.
const standInMagic = "moss seccomp profile 1\r\n"

// textKey names a profile by its text and by what, beside this executable,
// decides on what libcontainer makes of it: libseccomp's API level.
func textKey(text []byte) libseccomp.Key {
	level, _ := libseccomp.GetAPI() // 0 where it cannot be told, as libcontainer sees it
	h := sha256.New()
	h.Write([]byte(standInMagic))
	h.Write([]byte{byte(level)})
	h.Write(text)
	return libseccomp.Key(h.Sum(nil))
}

// remember keeps what stands in for the profile of that text.
func (c Cache) remember(text []byte, stand *configs.Seccomp) error {
	data, err := encodeStandIn(stand)
	if err != nil {
		return err
	}
	return c.write(textKey(text), data)
}

// recall returns what stands in for the profile of that text, and its program.
func (c Cache) recall(text []byte) (*configs.Seccomp, *Entry, error) {
	data, err := c.read(textKey(text))
	if err != nil {
		return nil, nil, err
	}
	stand, key, err := decodeStandIn(data)
	if err != nil {
		return nil, nil, err
	}
	e, err := c.load(key)
	return stand, e, err
}

// encodeStandIn returns the magic, the SHA-256 of the rest, and the profile as
// JSON, which libcontainer's state is.
func encodeStandIn(stand *configs.Seccomp) ([]byte, error) {
	data, err := json.Marshal(stand)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return append(append([]byte(standInMagic), sum[:]...), data...), nil
}

// decodeStandIn reads what encodeStandIn has written, and nothing that is damaged.
func decodeStandIn(b []byte) (stand *configs.Seccomp, key libseccomp.Key, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(standInMagic))
	if !ok || len(rest) < sha256.Size {
		return nil, key, errors.New("no profile is kept")
	}
	data := rest[sha256.Size:]
	if sha256.Sum256(data) != [sha256.Size]byte(rest) {
		return nil, key, errors.New("what is kept of the profile is damaged")
	}
	stand = &configs.Seccomp{}
	if err := json.Unmarshal(data, stand); err != nil {
		return nil, key, err
	}
	if key, ok = standsFor(stand); !ok {
		return nil, key, errors.New("what is kept of the profile stands in for nothing")
	}
	return stand, key, nil
}
