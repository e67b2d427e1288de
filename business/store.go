package business

import (
	"context"

	"syncgate/rule"
	"syncgate/store"
)

// Store runs plans. It is a *store.Store.
type Store interface {
	Apply(ctx context.Context, uploads []*store.Upload) []store.Outcome
	Read(ctx context.Context, p *rule.Plan, e rule.Env, sink store.Sink) (store.Page, error)
}
