package engine

import (
	"context"

	"github.com/moss-containers/moss/pkg/moss"
)

// RegistryAccess asks registries.
type RegistryAccess struct{ *Engine }

// RegistryService returns the service that asks registries.
func (e *Engine) RegistryService() RegistryAccess { return RegistryAccess{e} }

// Login tries credentials. Errors: Unauthorized when they are refused.
func (s RegistryAccess) Login(ctx context.Context, c moss.Credentials) (moss.Login, error) {
	return s.Registries.Login(ctx, c)
}

// Search looks for images at a registry.
func (s RegistryAccess) Search(ctx context.Context, q moss.SearchQuery) ([]moss.SearchResult, error) {
	return s.Registries.Search(ctx, q)
}

// Distribution tells what a registry has under a name.
func (s RegistryAccess) Distribution(ctx context.Context, ref string, c moss.Credentials) (moss.Distribution, error) {
	return s.Registries.Distribution(ctx, ref, c)
}
