package update

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Config says which zone files are sources and how they are watched.
type Config struct {
	// Dir is the directory of zone files. Empty means no zone files: Run then only
	// waits for its end.
	Dir string `option:"zones" help:"directory of zone files, each a live source"`
	// Settle is for how long a file must not have been written before it is read.
	// More delays changes; less reads files that are still being written, which
	// shows as errors that mend themselves.
	Settle time.Duration `option:"zones-settle" help:"how long a zone file must be still before it is read"`
	// Rescan is how often the directory is looked through for changes that the
	// file system did not announce. Each time costs one stat a file.
	Rescan time.Duration `option:"zones-rescan" help:"how often zone files are looked through for unannounced changes"`
}

// DefaultConfig is a Config without a directory.
func DefaultConfig() Config {
	return Config{Settle: 5 * time.Millisecond, Rescan: 30 * time.Second}
}

// Validate tells why the configuration cannot be used, or nil.
func (c Config) Validate() error {
	if c.Settle < 0 || c.Settle > 10*time.Second {
		return fmt.Errorf("zones-settle is %s, expected 0s to 10s", c.Settle)
	}
	if c.Rescan < time.Second {
		return fmt.Errorf("zones-rescan is %s, expected at least 1s", c.Rescan)
	}
	return nil
}

// Deps is what the importer works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

const (
	sessionTTL = 10 * time.Second // after which another process takes over
	retryAfter = time.Second      // after an error of the store or the directory
	committers = 8                // commits under way at once: they wait for a disk
)

// Importer keeps the claims of zone files as the files are.
type Importer struct {
	cfg     Config
	store   store.Store
	log     *slog.Logger
	metrics *metrics

	ready sync.Once
	first chan struct{} // closed when the directory was looked through once

	mu    sync.Mutex        // guards below
	users map[uint32]string // names of file owners, by uid
}

// Ready is closed when this process has once imported what the directory has; files
// with errors do not keep it open, nor does having no directory.
func (im *Importer) Ready() <-chan struct{} { return im.first }

// New checks cfg and registers the metrics; it reads no file.
func New(cfg Config, deps Deps) (*Importer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Dir != "" {
		dir, err := filepath.Abs(cfg.Dir) // by which the files are known in the store
		if err != nil {
			return nil, fmt.Errorf("find zone directory %s: %w", cfg.Dir, err)
		}
		cfg.Dir = dir
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics of zone files: %w", err)
	}
	return &Importer{cfg: cfg, store: deps.Store, log: deps.Log, metrics: m, first: make(chan struct{}), users: map[uint32]string{}}, nil
}

// Run imports until ctx ends, whenever this process leads; its error is then ctx's.
func (im *Importer) Run(ctx context.Context) error {
	if im.cfg.Dir == "" {
		im.ready.Do(func() { close(im.first) })
		<-ctx.Done()
		return ctx.Err()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	lead.Run(ctx, lead.Election{Store: im.store, Path: tree.ElectZoneFiles, Value: []byte(host), TTL: sessionTTL, Log: im.log}, im.follow)
	return ctx.Err()
}

// follow scans whenever something may have changed, until ctx ends. When the store
// cannot be reached it goes on with what it knows: what was read stays pending.
func (im *Importer) follow(ctx context.Context, fence store.Cond) error {
	im.log.Info("importing zone files", "dir", im.cfg.Dir)
	w := newWatcher(im.log)
	defer w.close()
	began := time.Now()
	var d *directory // nil: the store must be read first
	for {
		noticed := time.Now()
		w.watch(im.cfg.Dir) // before the scan, so that no change falls between
		var again time.Duration
		var err error
		if d == nil {
			d, err = im.newDirectory(ctx, fence)
		}
		if err == nil {
			again, err = d.scan(ctx, noticed)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			im.log.Warn("zone files not imported, trying again", "error", err, "pause", retryAfter)
			if !errors.Is(err, store.ErrUnavailable) {
				d = nil // somebody else wrote: begin from what is there
			}
			if err := lead.Check(ctx, im.store, fence); errors.Is(err, store.ErrConflict) {
				return err // the election is lost although the session lives
			}
			pause(ctx, retryAfter)
			continue
		}
		if again >= retryAfter { // less: some file is being written and not read yet
			im.ready.Do(func() {
				im.log.Info("zone files read", "dir", im.cfg.Dir, "files", d.counted.files, "records", d.counted.records, "broken", d.counted.broken,
					"took", time.Since(began).Round(time.Millisecond))
				close(im.first)
			})
		}
		w.watch(d.watched()...)
		if !w.wait(ctx, min(again, im.cfg.Rescan)) {
			return ctx.Err()
		}
	}
}

// level is that of the line about one file: at the start there are hundreds, and one
// line sums them up.
func (im *Importer) level() slog.Level {
	select {
	case <-im.first:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
