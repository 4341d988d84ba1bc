package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moss-containers/moss/pkg/moss"
)

// certsFor returns a directory that has a link for each of the hosts with
// certificates: the library looks into one directory, and there are several.
// They are looked for each time, as docker does.
func (c *Client) certsFor(hosts []string) (string, error) {
	dir := filepath.Join(c.o.TempDir, "certs.d")
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", moss.Wrap(err, "link certificates", "")
	}
	for _, h := range hosts {
		link := filepath.Join(dir, h)
		want, have := c.certDir(h), ""
		if to, err := os.Readlink(link); err == nil {
			have = to
		}
		if want == have {
			continue
		}
		if have != "" {
			if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", moss.Wrap(err, "link certificates", h)
			}
		}
		if want != "" {
			if err := os.Symlink(want, link); err != nil {
				return "", moss.Wrap(err, "link certificates", h)
			}
		}
	}
	return dir, nil
}

// certDir is the first directory that has a host's certificates, "" for none.
func (c *Client) certDir(host string) string {
	dirs := append([]string(nil), c.o.CertDirs...)
	if c.o.ConfigDir != "" {
		dirs = append(dirs, filepath.Join(c.o.ConfigDir, "docker/certs.d"), filepath.Join(c.o.ConfigDir, "containers/certs.d"))
	}
	dirs = append(dirs, filepath.Join(c.o.EtcDir, "docker/certs.d"), filepath.Join(c.o.EtcDir, "containers/certs.d"))
	for _, d := range dirs {
		path := filepath.Join(d, host)
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			return path
		}
	}
	return ""
}

func short(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
