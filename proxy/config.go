package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// Config is what a person may set.
type Config struct {
	// Dir is where the cache lies. One proxy has it at a time.
	Dir string `option:"dir" help:"directory of the cache"`
	// Socket is the unix socket that programs of this machine ask.
	Socket string `option:"socket" help:"path of the unix socket that local programs ask"`
	// Mode and Group say who may ask: connecting needs the right to write.
	Mode  Mode   `option:"socket-mode" help:"permissions of the socket, octal; who may write may read configurations"`
	Group string `option:"socket-group" help:"group of the socket, by name or number; empty means that of the process"`
	// Prefixes are what is followed; empty means everything.
	Prefixes []string `option:"prefixes" help:"beginnings of the paths that are followed, each with a slash at its end; none means all"`
	// MaxConfigs and MaxSize bound the memory, and a third of the disk.
	MaxConfigs int   `option:"max-configs" help:"configurations kept at most"`
	MaxSize    int64 `option:"max-size" help:"octets of all values kept at most"`
	// MaxWaiting bounds long polls; the next are refused. 1,024 connections are the bound
	// of all requests together.
	MaxWaiting int `option:"max-waiting" help:"requests that may wait for a newer version at the same time"`
	// Confirm is how often the store is asked whether there is anything newer. It is what
	// ages are measured from; each proxy costs the store one read in that time.
	Confirm time.Duration `option:"confirm" help:"how often the store is asked whether what is here is the newest"`
}

// Mode is a file's permissions in octal digits.
type Mode uint32

// UnmarshalText reads octal digits.
func (m *Mode) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("mode is %q, expected octal digits up to 0777 such as 0660", b)
	}
	*m = Mode(n)
	return nil
}

// MarshalText writes four octal digits.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// DefaultSocket is where a proxy is looked for.
const DefaultSocket = "/run/zonecast/config.sock"

// DefaultConfig needs no more, where /var/lib and /run can be written.
func DefaultConfig() Config {
	return Config{
		Dir: "/var/lib/zonecast/proxy", Socket: DefaultSocket, Mode: 0o660,
		MaxConfigs: 100_000, MaxSize: 256 << 20, MaxWaiting: 900, Confirm: 10 * time.Second,
	}
}

// maxSocket is the longest path of a unix socket, in octets: sun_path of unix(7) without
// its final zero.
const maxSocket = 107

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Dir == "" {
		report("dir is empty, expected a directory")
	}
	if c.Socket == "" || len(c.Socket) > maxSocket {
		report("socket is a path of %d octets, expected 1 to %d", len(c.Socket), maxSocket)
	}
	for _, p := range c.Prefixes {
		if err := configtree.CheckPrefix(p); err != nil || p == "" {
			report("prefixes has %q, expected the beginning of paths with a slash at its end, such as app/", p)
		}
	}
	if c.MaxConfigs < 1 {
		report("max-configs is %d, expected at least 1", c.MaxConfigs)
	}
	if c.MaxSize < 1 || c.MaxSize > 16<<30 {
		report("max-size is %d, expected 1 to %d octets", c.MaxSize, int64(16<<30))
	}
	if c.MaxWaiting < 1 || c.MaxWaiting > 1000 {
		report("max-waiting is %d, expected 1 to 1000: there are 1024 connections for all requests", c.MaxWaiting)
	}
	if c.Confirm < 100*time.Millisecond || c.Confirm > time.Hour {
		report("confirm is %v, expected 100ms to 1h", c.Confirm)
	}
	return errors.Join(errs...)
}

// Deps is what the proxy works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// FS is where Dir is. Nil means the operating system's.
	FS journal.FS
}
