package site

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// Config is what a person may set.
type Config struct {
	// Listen is where agents connect, address:port or unix:/PATH. Empty: nowhere.
	Listen string `option:"listen" help:"address:port or unix:PATH on which the agents of this site reach the store (--store proxy://…); empty: none"`
	// Dir is where what agents need lies on the disk. One proxy has it at a time.
	Dir string `option:"dir" help:"directory in which the datasets and their snapshots are kept for the agents"`
	// Cert and Key are files (PEM) with which TLS is spoken; empty: it is not. ClientCA says
	// whose certificates agents must have; empty: none is asked for.
	Cert     string `option:"cert" help:"file with the certificate (PEM) that is shown to agents; empty: connections are in the clear"`
	Key      string `option:"key" help:"file with its private key (PEM)"`
	ClientCA string `option:"client-ca" help:"file with certificates (PEM): agents must show one that these signed; empty: any agent may connect"`
	// Most bounds connections.
	Most int `option:"most" help:"connections at the same time; the next are refused"`
	// MaxSize bounds what is kept in memory of each part of the tree, in octets as they are sent.
	MaxSize int64 `option:"max-size" help:"octets kept at most of each part of the store that agents follow"`
	// Snapshots tells whether the snapshots that are offered are fetched and served here.
	Snapshots bool `option:"snapshots" help:"fetch the snapshots that are offered, and serve them to the agents"`
	// Confirm is how often the store is asked whether it is there.
	Confirm time.Duration `option:"confirm" help:"how often the store is asked whether it is there: what is told of being cut off is at most so old"`
	// SessionTTL is how long after the site was cut off its hosts count as live.
	SessionTTL time.Duration `option:"session-ttl" help:"how long after the site is cut off its hosts count as live for others"`
	// Pace is the least time between two writes of what agents report.
	Pace time.Duration `option:"pace" help:"least time between two writes to the store; what agents report meanwhile goes together"`
}

// DefaultConfig serves nobody yet.
func DefaultConfig() Config {
	return Config{
		Dir: "/var/lib/zonecast/site", Most: 10_000, MaxSize: wire.MaxAnswer, Snapshots: true,
		Confirm: 5 * time.Second, SessionTTL: 10 * time.Second, Pace: 10 * time.Millisecond,
	}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Listen == "" {
		return nil
	}
	if path, ok := strings.CutPrefix(c.Listen, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			report("listen is %q, expected unix:/PATH", c.Listen)
		}
	} else if _, port, err := net.SplitHostPort(c.Listen); err != nil || port == "" {
		report("listen is %q, expected address:port or unix:/PATH", c.Listen)
	}
	if c.Dir == "" {
		report("dir is empty, expected a directory")
	}
	if (c.Cert == "") != (c.Key == "") {
		report("cert and key go together: a certificate and its private key")
	}
	if c.ClientCA != "" && c.Cert == "" {
		report("client-ca needs cert and key: without TLS nobody shows a certificate")
	}
	if c.Most < 1 || c.Most > 1_000_000 {
		report("most is %d, expected 1 to 1000000", c.Most)
	}
	if c.MaxSize < 1<<20 || c.MaxSize > wire.MaxAnswer {
		report("max-size is %d, expected %d to %d octets: agents take no more in one answer", c.MaxSize, 1<<20, wire.MaxAnswer)
	}
	if c.Confirm < 100*time.Millisecond || c.Confirm > time.Hour {
		report("confirm is %v, expected 100ms to 1h", c.Confirm)
	}
	if c.SessionTTL < time.Second {
		report("session-ttl is %v, at least 1s", c.SessionTTL)
	}
	if c.Pace < 0 || c.Pace > 10*time.Second {
		report("pace is %v, expected 0 to 10s", c.Pace)
	}
	return errors.Join(errs...)
}

// Deps is what the proxy of a site works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Fetcher gets snapshots. Nil means follow.HTTP.
	Fetcher follow.Fetcher
	// Tree says which parts of the tree are served, and how. Zero means tree.Site.
	Tree tree.SiteParts
}
