package tinydns

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/snapshot"
)

// Config is what a host with tinydns needs to know.
type Config struct {
	// Address is where tinydns answers: its port is always 53, and there is no TCP.
	Address string `option:"address" help:"address on which tinydns answers; its port is 53, UDP alone"`
	// Dataset, Journal, StatusDir, Keys and Revoked are those of the agent.
	Dataset   string   `option:"dataset" help:"name of the dataset to answer"`
	Journal   string   `option:"journal" help:"journal directory, written by the agent"`
	StatusDir string   `option:"status-dir" help:"directory for the file that says what is answered"`
	Keys      []string `option:"keys" help:"files with the publisher's public keys"`
	Revoked   string   `option:"revoked" help:"file in which keys are revoked on this host, one id a line; need not be there"`
	// Dir has root/data.cdb, which tinydns answers, build/data, which it was made of, and
	// unsaid.txt.
	Dir string `option:"dir" help:"directory for data.cdb (in root), its text (in build) and unsaid.txt"`
	// Locations is a file in the format of tinydns-data whose lines % say where clients
	// are. RRsets of the dataset that have a location of two octets are answered to those.
	Locations string `option:"locations" help:"file of tinydns-data lines %lo:prefix that say which clients a location has"`

	// Every is the least time between two builds. Each costs as long as the dataset is
	// large: about a second for 100,000 RRsets. Zero means one after the other.
	Every time.Duration `option:"every" help:"least time between two builds of data.cdb"`
	// FreshEvery is the same for versions that change nothing but the freshness record.
	FreshEvery time.Duration `option:"fresh-every" help:"least time between builds for the freshness record alone"`

	// Tinydns and TinydnsData are the programs.
	Tinydns     string `option:"program" help:"tinydns's program; empty looks for it"`
	TinydnsData string `option:"data-program" help:"tinydns-data's program; empty looks for it"`
	// User is the account that tinydns changes to, when it is started by root; otherwise it
	// keeps that of this process, which then needs CAP_SYS_CHROOT and CAP_SETGID.
	User string `option:"user" help:"account that tinydns runs as when it is started by root; otherwise it is that of this process"`
	// Start: tinydns is a child of this process. False: somebody else runs it on DIR/root.
	Start bool `option:"start" help:"start tinydns as a child; false: somebody else runs it with ROOT=DIR/root"`
	// Leave: tinydns goes on when this process ends, and the next takes it over.
	Leave bool `option:"leave" help:"at the end let tinydns go on; the next start takes it over"`
}

// DefaultConfig needs Journal, StatusDir, Keys and Dir yet.
func DefaultConfig() Config {
	return Config{Address: "127.0.0.1", Dataset: "internal", Every: time.Second, FreshEvery: 10 * time.Second, User: "tinydns", Start: true}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a, err := netip.ParseAddr(c.Address); err != nil || !a.Is4() {
		wrong("address: %q, expected an IPv4 address: tinydns has no IPv6", c.Address)
	}
	if err := snapshot.CheckName(c.Dataset); err != nil {
		wrong("dataset: %w", err)
	}
	for _, o := range [][2]string{{"journal", c.Journal}, {"status-dir", c.StatusDir}, {"dir", c.Dir}} {
		if o[1] == "" {
			wrong("%s: empty, expected a directory", o[0])
		}
	}
	if len(c.Keys) == 0 {
		wrong("keys: not given, expected files with public keys: without one nothing could be believed")
	}
	if c.User == "" {
		wrong("user: empty, expected an account that tinydns changes to")
	}
	if c.Every < 0 {
		wrong("every: %s, expected 0 or more", c.Every)
	}
	if c.FreshEvery < 0 {
		wrong("fresh-every: %s, expected 0 or more", c.FreshEvery)
	}
	return errors.Join(errs...)
}

// root is tinydns's directory, build that in which data.cdb is made.
func (c Config) root() string  { return filepath.Join(c.Dir, "root") }
func (c Config) build() string { return filepath.Join(c.Dir, "build") }

// Deps is what the stage is given.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
}
