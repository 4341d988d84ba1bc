package registry

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/signature/signer"
	"github.com/containers/image/v5/signature/sigstore"
	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/registry"
)

// sign makes a copy of an image with a sigstore signature beside it, and
// returns the public key and that of nobody.
func sign(t *testing.T, c *Client, from, to string) (right, wrong string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"right", "wrong"} {
		keys, err := sigstore.GenerateKeyPair([]byte("pass"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".pub"), string(keys.PublicKey))
		write(t, filepath.Join(dir, name+".key"), string(keys.PrivateKey))
	}
	right, wrong = filepath.Join(dir, "right.pub"), filepath.Join(dir, "wrong.pub")
	s, err := sigstore.NewSigner(sigstore.WithPrivateKeyFile(filepath.Join(dir, "right.key"), []byte("pass")))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		t.Fatal(err)
	}
	named, err := reference.ParseNormalizedNamed(to)
	if err != nil {
		t.Fatal(err)
	}
	sys, err := c.System(t.Context(), named, moss.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	src, err := docker.ParseReference("//" + from)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := docker.ParseReference("//" + to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := copy.Image(t.Context(), policy, dst, src, &copy.Options{SourceCtx: sys, DestinationCtx: sys, Signers: []*signer.Signer{s}}); err != nil {
		t.Fatal(err)
	}
	return right, wrong
}

// What policy.json refuses does not come in; without one everything does.
func TestPolicy(t *testing.T) {
	r := registry.New(t, registry.Options{})
	c := client(t, Options{})
	write(t, filepath.Join(c.o.ConfigDir, "containers/registries.d/here.yaml"), fmt.Sprintf("docker:\n  %s:\n    use-sigstore-attachments: true\n", r.Host))
	r.Remote().Push(t, "plain", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	right, wrong := sign(t, c, r.Host+"/plain:v1", r.Host+"/signed:v1")
	user, etc := filepath.Join(c.o.ConfigDir, "containers/policy.json"), filepath.Join(c.o.EtcDir, "containers/policy.json")
	signedBy := func(key string) string {
		return fmt.Sprintf(`{"default": [{"type": "reject"}], "transports": {"docker": {%q: [{"type": "sigstoreSigned", "keyPath": %q, "signedIdentity": {"type": "matchRepository"}}]}}}`, r.Host, key)
	}
	for _, s := range []struct {
		name, at, policy string
		plain, signed    bool
		class            moss.Class
	}{
		{"none", "", "", true, true, 0},
		{"the machine's", etc, `{"default": [{"type": "reject"}]}`, false, false, moss.Forbidden},
		{"the user's before the machine's", user, `{"default": [{"type": "insecureAcceptAnything"}]}`, true, true, 0},
		{"the right key", user, signedBy(right), false, true, moss.Forbidden},
		{"the wrong key", user, signedBy(wrong), false, false, moss.Forbidden},
		{"nonsense", user, `{`, false, false, moss.Invalid},
	} {
		if s.at != "" {
			write(t, s.at, s.policy)
		}
		for image, ok := range map[string]bool{"plain": s.plain, "signed": s.signed} {
			src, err := c.Open(t.Context(), r.Host+"/"+image+":v1", moss.Credentials{})
			if err != nil {
				t.Fatal(err)
			}
			err = src.Allowed(t.Context(), nil)
			src.Close()
			if (err == nil) != ok {
				t.Errorf("%s: %s: %v", s.name, image, err)
			}
			if !ok {
				wantClass(t, err, s.class, s.at)
			}
		}
	}
}
