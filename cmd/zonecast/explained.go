package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/zonecast/zonecast/store"
)

// explainedStore is a store whose server is known to this process: when it cannot
// be reached the error says why it does not run.
type explainedStore struct {
	store.Store
	trouble func() string // "" when the server runs
}

// Get implements store.Store.
func (s explainedStore) Get(ctx context.Context, path string) (store.Node, error) {
	n, err := s.Store.Get(ctx, path)
	return n, s.explain(err)
}

// List implements store.Store.
func (s explainedStore) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	nodes, rev, err := s.Store.List(ctx, prefix)
	return nodes, rev, s.explain(err)
}

// Commit implements store.Store.
func (s explainedStore) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	rev, err := s.Store.Commit(ctx, txn)
	return rev, s.explain(err)
}

func (s explainedStore) explain(err error) error {
	if !errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if why := s.trouble(); why != "" {
		return fmt.Errorf("%w (the store process does not run: %s)", err, why)
	}
	return err
}
