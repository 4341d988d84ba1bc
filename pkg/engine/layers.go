package engine

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/moss-containers/moss/pkg/moss"
)

// layerSizes are the sizes of images' layers by the OCI chain id, and how many
// images have each.
type layerSizes struct {
	size  map[string]int64
	users map[string]int
}

func sizesOf(images []moss.Image) layerSizes {
	s := layerSizes{size: make(map[string]int64), users: make(map[string]int)}
	for _, image := range images {
		for i, chain := range chainIDs(image) {
			s.size[chain] = image.LayerSizes[i]
			s.users[chain]++
		}
	}
	return s
}

// shared is what of an image other images have too.
func (s layerSizes) shared(image moss.Image) (bytes int64) {
	for _, chain := range chainIDs(image) {
		if s.users[chain] > 1 {
			bytes += s.size[chain]
		}
	}
	return bytes
}

// chainIDs names an image's layers, each with those below it, as the OCI image
// specification has it: an id is that of the same layers everywhere. None for an
// image whose layers' sizes are not known.
func chainIDs(image moss.Image) []string {
	if len(image.LayerSizes) != len(image.DiffIDs) {
		return nil
	}
	chains := make([]string, len(image.DiffIDs))
	for i, diff := range image.DiffIDs {
		if i == 0 {
			chains[i] = diff
			continue
		}
		sum := sha256.Sum256([]byte(chains[i-1] + " " + diff))
		chains[i] = "sha256:" + hex.EncodeToString(sum[:])
	}
	return chains
}
