package presenter

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// Config is what a person may set.
type Config struct {
	// Dataset is the name of the dataset that is made.
	Dataset string `option:"dataset" help:"name of the dataset"`
	// Settle is how long the claims must have been quiet for a version to be made.
	// Longer makes fewer, larger versions of a burst; each change waits for it.
	// Zero makes a version of every batch.
	Settle time.Duration `option:"settle" help:"how long claims must be quiet before a version is made"`
	// Gather is the longest time a change waits for a burst to end, at least Settle.
	Gather time.Duration `option:"gather" help:"how long a burst is gathered at most"`
	// SessionTTL is how long after the death of a leading presenter another takes
	// over.
	SessionTTL time.Duration `option:"session-ttl" help:"how long after the death of a presenter another takes over"`
	// History is how many of the versions that changed content can be gone back to. Zero
	// means none.
	History int `option:"history" help:"versions that can be rolled back to"`
	// Audit is of how many older versions it is kept how they came about, some 200 octets
	// each. Zero means none. It follows History: without one nothing is kept of any.
	Audit int `option:"audit" help:"older versions of which the audit still has how they came about"`
	// Guards false lets every change through at once. Guard bounds what a source may
	// change without a person; Presenter.SetGuard changes it later.
	Guards bool         `option:"guards" help:"hold changes of robots and files that exceed bounds for a person"`
	Guard  guard.Bounds `option:"guard" live:"true"`
	// Trial says which changes rings of hosts try before all hosts have them. Without rings none
	// is tried.
	Trial trial.Policy `option:"trial"`
	// AboveHosts is a person's consent after the store was lost or put back: hosts then
	// answer a newer version than the store has, and go back for nobody. With it the
	// next version is a whole one above theirs; without it they keep what they have,
	// because the claims may not be complete again yet.
	AboveHosts bool `option:"above-hosts" help:"the store was lost or put back and its claims are complete again: publish above what hosts answer"`
}

// Deps is what the presenter works with. Fetcher is asked for the snapshot of what
// is published, at the start; nil means that only deltas can be had.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Policy  reconcile.Policy
	// Division says which claims are the dataset's. Nil: all are.
	Division *datasets.Division
	Fetcher  follow.Fetcher
	Name     string // of this process, for people who ask who leads
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// DefaultConfig gathers as DESIGN §5 says.
func DefaultConfig() Config {
	return Config{
		Dataset:    "internal",
		Settle:     2 * time.Millisecond,
		Gather:     20 * time.Millisecond,
		SessionTTL: 5 * time.Second,
		History:    1000,
		Audit:      100_000,
		Guards:     true,
		Guard:      guard.DefaultBounds(),
		Trial:      trial.DefaultPolicy(),
	}
}

// maxHistory keeps what is read at a start below some ten MiB, maxAudit what an audit
// reads below some hundred.
const (
	maxHistory = 50_000
	maxAudit   = 1_000_000
)

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	if err := snapshot.CheckName(c.Dataset); err != nil {
		errs = append(errs, fmt.Errorf("dataset: %w", err))
	}
	if c.Settle < 0 || c.Gather < c.Settle {
		errs = append(errs, fmt.Errorf("settle is %v and gather %v, expected 0 <= settle <= gather", c.Settle, c.Gather))
	}
	if c.History < 0 || c.History > maxHistory {
		errs = append(errs, fmt.Errorf("history is %d, expected 0 to %d", c.History, maxHistory))
	}
	if c.Audit < 0 || c.Audit > maxAudit {
		errs = append(errs, fmt.Errorf("audit is %d, expected 0 to %d", c.Audit, maxAudit))
	}
	if c.SessionTTL < time.Second {
		errs = append(errs, fmt.Errorf("session-ttl is %v, at least 1s", c.SessionTTL))
	}
	if err := c.Guard.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("guard: %w", err))
	}
	if err := c.Trial.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("trial: %w", err))
	}
	return errors.Join(errs...)
}
