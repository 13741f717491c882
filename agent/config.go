package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// Config is what a person may set.
type Config struct {
	// Host is the name under which the host is known, one path element.
	Host string `option:"host" help:"name of this host"`
	// Dataset is the name of the dataset that the host serves.
	Dataset string `option:"dataset" help:"name of the dataset"`
	// Also are datasets that the host carries beside Dataset: what of zones is in both, the
	// earlier answers.
	Also []string `option:"also" help:"datasets that this host carries beside that one, while no group in the store says otherwise"`
	// Journal is the directory that the authority follows. Beside it lie
	// <journal>.fetch, where snapshots arrive, and what was found damaged.
	Journal string `option:"journal" help:"directory of the journal"`
	// StatusDir is where the authority says what it answers.
	StatusDir string `option:"status-dir" help:"directory in which the authority says what it answers"`
	// Keys are files with the public keys (PEM) that are believed.
	Keys []string `option:"keys" help:"files with public keys that are believed"`
	// Revoked is a file in which this host's administrator takes trust away: one key a line.
	// What the store says of revoked keys is remembered in <journal>.revoked.
	Revoked string `option:"revoked" help:"file in which keys are revoked on this host, one id a line; need not be there"`
	// DNS is where the host answers, address:port, for those who ask it from outside.
	DNS string `option:"dns" help:"address and port on which the host answers, as others reach it"`
	// HTTP is where its metrics and status are; empty when nowhere.
	HTTP string `option:"http" help:"address and port of metrics and status, as others reach it"`
	// SessionTTL is how long after its death the host counts as live. Shorter notices
	// sooner; each host costs the store three renewals in that time.
	SessionTTL time.Duration `option:"session-ttl" help:"how long after its death the host counts as live"`
	// ReportEvery is how often at most the host says that it answers a version that
	// changed nothing but the freshness record; others it says at once. It bounds the
	// writes of a quiet fleet to hosts/ReportEvery a second.
	ReportEvery time.Duration `option:"report-every" help:"how often at most a version without changes is reported"`
	// SampleEvery is how often at most the questions that the authority drew are put into
	// the store, where changes are tried on them; they say nothing of who asks. Each time
	// costs it up to 32 KiB. Zero: never.
	SampleEvery time.Duration `option:"sample-every" help:"how often at most the authority's sample of questions is put into the store; 0 is never"`
	// Operators is a file of those who may hand overrides to this host directly, without the
	// store. Direct is where they do, address:port or unix:PATH. Empty: nobody, nowhere.
	Operators string `option:"operators" help:"file of the operators who may hand overrides to this host directly"`
	Direct    string `option:"direct" help:"address:port or unix:PATH on which operators hand overrides to this host directly"`
	// Labels are KEY=VALUE, such as site=ams: rings name hosts by them.
	Labels []string `option:"labels" help:"labels of this host, KEY=VALUE, by which rings name it"`
	// FoldSize is octets of the journal's log after which it is folded into a
	// snapshot. Zero means the journal's default.
	FoldSize int64 `option:"fold-size" help:"octets of the journal's log before it is folded; 0 means the default"`
}

// DefaultConfig needs Host, Journal, StatusDir, Keys and DNS yet.
func DefaultConfig() Config {
	return Config{Dataset: "internal", SessionTTL: 10 * time.Second, ReportEvery: time.Second, SampleEvery: time.Minute}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	if err := store.CheckPath(tree.HostPath(c.Host)); err != nil || filepath.Base(c.Host) != c.Host {
		errs = append(errs, fmt.Errorf("host is %.80q, expected one path element of printable ASCII", c.Host))
	}
	if err := snapshot.CheckName(c.Dataset); err != nil {
		errs = append(errs, fmt.Errorf("dataset: %w", err))
	}
	if err := datasets.CheckCarried(append([]string{c.Dataset}, c.Also...)); err != nil {
		errs = append(errs, fmt.Errorf("also: %w", err))
	}
	for _, l := range c.Labels {
		if err := trial.CheckLabel(l); err != nil {
			errs = append(errs, fmt.Errorf("labels: %w", err))
		}
	}
	if c.Journal == "" {
		errs = append(errs, errors.New("journal is empty, expected a directory"))
	}
	if c.StatusDir == "" {
		errs = append(errs, errors.New("status-dir is empty, expected a directory"))
	}
	if len(c.Keys) == 0 {
		errs = append(errs, errors.New("keys is not given, expected one or more files with public keys: without one nothing could be believed"))
	}
	if (c.Operators == "") != (c.Direct == "") {
		errs = append(errs, errors.New("operators and direct go together: who may hand overrides over, and where"))
	}
	if c.SessionTTL < time.Second {
		errs = append(errs, fmt.Errorf("session-ttl is %s, at least 1s", c.SessionTTL))
	}
	if c.ReportEvery <= 0 {
		errs = append(errs, fmt.Errorf("report-every is %s, expected more than 0", c.ReportEvery))
	}
	if c.SampleEvery < 0 {
		errs = append(errs, fmt.Errorf("sample-every is %s, expected 0 or more", c.SampleEvery))
	}
	return errors.Join(errs...)
}

// Deps is what the agent works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Fetcher gets snapshots. Nil means follow.HTTP.
	Fetcher follow.Fetcher
	// FS is where the journal and the status directory are. Nil means the operating
	// system's file system.
	FS journal.FS
	// Beside are nodes that live and die with the host's own. Nil: none.
	Beside Beside
	// FetcherOf is asked for what gets the snapshots of a dataset when the host takes it up, be it
	// Dataset itself; left is called when the host carries it no more, and not at the end of the
	// process. Nil means Fetcher for Dataset, and follow.HTTP for those beside.
	FetcherOf func(dataset string) (f follow.Fetcher, left func())
	// Relieve, unless nil, is called when the journal finds the disk full: what this process keeps
	// there for others may go.
	Relieve func()
	// Progress, unless nil, is told how far the fetch of a snapshot is, in octets.
	Progress func(done, total int64)
}

// Beside gives nodes that are to be in the host's session.
type Beside interface {
	// Nodes are what is to be there.
	Nodes() []store.Op
	// Changed says that Nodes gives something else.
	Changed() <-chan struct{}
}
