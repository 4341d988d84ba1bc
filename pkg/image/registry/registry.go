// Package registry talks to image registries: it opens images for reading,
// logs in, searches and describes what is there. It is the door to the docker
// transport of github.com/containers/image/v5.
//
// What a user can configure comes from three places and is laid together here:
// docker's keys of daemon.json, docker's certs.d directories, and the files of
// the containers tools (registries.conf, registries.d, policy.json), where
// there are any.
package registry

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/containers/image/v5/types"
	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
)

// Options say how to reach registries.
type Options struct {
	Mirrors  []string // of docker.io: URLs without a path (registry-mirrors)
	Insecure []string // host[:port] or CIDR (insecure-registries); loopback always is

	CertDirs  []string // looked through before the certs.d directories of docker and the containers tools
	ConfigDir string   // the user's: $XDG_CONFIG_HOME
	EtcDir    string   // the machine's; "" means /etc
	TempDir   string   // for what is generated; its own

	UserAgent string
	Log       *slog.Logger
}

// Client talks to registries. It is safe for concurrent use.
type Client struct {
	o   Options
	now atomic.Pointer[inForce]

	mu    sync.Mutex // of the files in TempDir
	files map[string]bool
}

// inForce is what Configure can change.
type inForce struct {
	mirrors  []string
	insecure insecure
	base     conf
}

// New reads the configuration. Errors: Invalid, naming the setting or file.
func New(o Options) (*Client, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.EtcDir == "" {
		o.EtcDir = "/etc"
	}
	c := &Client{o: o, files: map[string]bool{}}
	if err := c.Configure(o.Mirrors, o.Insecure); err != nil {
		return nil, err
	}
	// What an earlier process generated may not be what this one would.
	if err := os.RemoveAll(o.TempDir); err != nil {
		return nil, moss.Wrap(err, "open the registries' directory", o.TempDir)
	}
	if err := os.MkdirAll(filepath.Join(o.TempDir, noConf), 0o700); err != nil {
		return nil, moss.Wrap(err, "open the registries' directory", o.TempDir)
	}
	return c, nil
}

// Configure reads the files anew and has other mirrors and insecure registries
// from now on; what is under way goes on as it began. After an error all is as
// it was.
func (c *Client) Configure(mirrors, insecure []string) error {
	n := &inForce{mirrors: mirrors}
	var err error
	if n.insecure, err = parseInsecure(insecure); err != nil {
		return err
	}
	if n.base, err = c.readConf(mirrors); err != nil {
		return err
	}
	c.now.Store(n)
	return nil
}

// Info is the configuration, for docker info.
func (c *Client) Info() moss.RegistryInfo {
	now := c.now.Load()
	info := moss.RegistryInfo{Mirrors: now.mirrors}
	for _, p := range now.insecure.nets {
		info.Insecure = append(info.Insecure, p.String())
	}
	info.Insecure = append(info.Insecure, now.insecure.hosts...)
	return info
}

// System is what containers/image needs to know to reach the registry of ref,
// and its mirrors, with those credentials.
func (c *Client) System(ctx context.Context, ref reference.Named, cred moss.Credentials) (*types.SystemContext, error) {
	return c.system(ctx, reference.Domain(ref), cred, false)
}

func (c *Client) system(ctx context.Context, host string, cred moss.Credentials, direct bool) (*types.SystemContext, error) {
	path, hosts, err := c.confFor(ctx, host, direct)
	if err != nil {
		return nil, err
	}
	certs, err := c.certsFor(hosts)
	if err != nil {
		return nil, err
	}
	sys := &types.SystemContext{
		SystemRegistriesConfPath:    path,
		SystemRegistriesConfDirPath: filepath.Join(c.o.TempDir, noConf),
		DockerPerHostCertDirPath:    certs,
		RegistriesDirPath:           c.registriesDir(),
		DockerRegistryUserAgent:     c.o.UserAgent,
		DockerBearerRegistryToken:   cred.RegistryToken,
		BigFilesTemporaryDir:        c.o.TempDir,
		// Where blobs are is told by the manifests that are kept with images.
		BlobInfoCacheDir: filepath.Join(os.DevNull, "none"),
		// Never nil: a client that shows no credentials must not get those in the daemon's home.
		DockerAuthConfig: &types.DockerAuthConfig{Username: cred.Username, Password: cred.Password, IdentityToken: cred.IdentityToken},
		// Nobody has sent schema 1 for years, and it cannot be unpacked as it stands.
		DockerDisableDestSchema1MIMETypes: true,
	}
	if cred.IdentityToken != "" {
		// docker's clients send a name beside the token; with both the library would ask with the password.
		sys.DockerAuthConfig.Password = ""
	}
	return sys, nil
}

// registriesDir is where it says how a registry keeps signatures.
func (c *Client) registriesDir() string {
	return c.first("containers/registries.d")
}

// first returns where the user has a file of the containers tools, else where the machine would.
func (c *Client) first(name string) string {
	if c.o.ConfigDir != "" {
		path := filepath.Join(c.o.ConfigDir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(c.o.EtcDir, name)
}

var loopback = []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")}
