package host

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Parts are the daemons that a host may have, in the order in which data goes. The place
// of one is its distance from Config.HTTP.
var Parts = []string{"agent", "authority", "recursor", "announcer", "tinydns", "proxy"}

// Managers.
const (
	Own     = "own"     // children of this process
	Runit   = "runit"   // services of runit, told by sv
	Systemd = "systemd" // units, told by systemctl
)

// Config is what runs on a host, and how.
type Config struct {
	Name string   `option:"name" help:"name of this host, unique in the fleet; empty is the machine's"`
	Dir  string   `option:"dir" help:"directory of everything that a host keeps: journal, status, images, the recursor's files"`
	Keys []string `option:"keys" help:"files with the publisher's public keys"`
	// Run are some of Parts.
	Run []string `option:"run" help:"what runs on this host: agent, authority, recursor, announcer, tinydns, proxy"`
	// Manager is who has the processes.
	Manager string `option:"manager" help:"who has the processes: own (children of this one), runit (sv) or systemd (systemctl)"`
	// Services is where a manager's service of a part is found, with the part in place of %s.
	// Empty: /etc/service/zonecast-%s of runit, zonecast-%s.service of systemd.
	Services string `option:"services" help:"a part's directory for sv, or its unit; %s is the part. Empty is /etc/service/zonecast-%s or zonecast-%s.service"`
	// HTTP is where the first of Parts serves metrics and status; the others follow.
	HTTP netip.AddrPort `option:"http" help:"address:port of the agent's metrics and status; authority, recursor, announcer, tinydns and proxy have the ports after it"`
	// CheckEvery and CheckFall say when a part hangs: a process that runs, and answers
	// neither HTTP nor, where it should, DNS.
	CheckEvery time.Duration `option:"check-every" help:"how often each part is asked whether it answers; 0 is never"`
	CheckFall  int           `option:"check-fall" help:"how many checks in a row a part has to fail to be started again"`
	// StartGrace is how long a part may take after its start.
	StartGrace time.Duration `option:"start-grace" help:"how long after its start a part is not judged"`
	// ReplaceWithin bounds a hand-over: reading the journal of a large dataset takes most of it.
	ReplaceWithin time.Duration `option:"replace-within" help:"how long the successor of an authority may take to take over; the old one answers meanwhile"`
	// Leave: the parts go on when this process ends, and the next takes them over.
	Leave bool `option:"leave" help:"at the end let the parts go on; the next start takes them over"`
}

// DefaultConfig is a host that answers, and nothing besides.
func DefaultConfig() Config {
	return Config{
		Dir: "/var/lib/zonecast", Keys: []string{"/etc/zonecast/publisher.key.pub"}, Run: []string{"agent", "authority"}, Manager: Own,
		HTTP: netip.MustParseAddrPort("127.0.0.1:7391"), CheckEvery: 2 * time.Second, CheckFall: 5, StartGrace: time.Minute, ReplaceWithin: 2 * time.Minute,
	}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Dir == "" {
		wrong("dir is empty, expected a directory")
	}
	if len(c.Run) == 0 {
		wrong("run is empty, expected some of %s", strings.Join(Parts, ", "))
	}
	for i, p := range c.Run {
		switch {
		case !slices.Contains(Parts, p):
			wrong("run has %.40q, expected some of %s", p, strings.Join(Parts, ", "))
		case slices.Contains(c.Run[:i], p):
			wrong("run has %s twice", p)
		}
	}
	if slices.Contains(c.Run, "authority") && slices.Contains(c.Run, "tinydns") {
		wrong("run has authority and tinydns, which answers in its place: expected one of them")
	}
	switch c.Manager {
	case Own, Runit, Systemd:
	default:
		wrong("manager is %.40q, expected own, runit or systemd", c.Manager)
	}
	if c.Services != "" && strings.Count(c.Services, "%s") != 1 {
		wrong("services is %.80q, expected %%s once in it, where the part's name belongs", c.Services)
	}
	if p := int(c.HTTP.Port()); !c.HTTP.IsValid() || p == 0 || p+len(Parts)-1 > 65535 {
		wrong("http is %s, expected an address and a port with room for %d up to 65535", c.HTTP, len(Parts))
	}
	if c.CheckEvery < 0 || c.CheckEvery > 0 && c.CheckEvery < 100*time.Millisecond {
		wrong("check-every is %v, expected 0 or at least 100ms", c.CheckEvery)
	}
	if c.CheckFall < 1 {
		wrong("check-fall is %d, at least 1", c.CheckFall)
	}
	if c.StartGrace < 0 {
		wrong("start-grace is %v, expected 0 or more", c.StartGrace)
	}
	if c.ReplaceWithin < time.Second {
		wrong("replace-within is %v, at least 1s", c.ReplaceWithin)
	}
	return errors.Join(errs...)
}

// Has tells whether a part runs here.
func (c Config) Has(part string) bool { return slices.Contains(c.Run, part) }

// Path is a file in Dir.
func (c Config) Path(elem ...string) string {
	return filepath.Join(append([]string{c.Dir}, elem...)...)
}

// PidFile is where the process of a part is noted.
func (c Config) PidFile(part string) string { return c.Path("run", part+".pid") }

// HTTPOf is where a part serves metrics and status.
func (c Config) HTTPOf(part string) netip.AddrPort {
	return netip.AddrPortFrom(c.HTTP.Addr(), c.HTTP.Port()+uint16(slices.Index(Parts, part)))
}

// Service is a part to its manager.
func (c Config) Service(part string) string {
	form := c.Services
	if form == "" {
		form = map[string]string{Runit: "/etc/service/zonecast-%s", Systemd: "zonecast-%s.service"}[c.Manager]
	}
	return strings.Replace(form, "%s", part, 1)
}

// Part is a daemon of the host.
type Part struct {
	Name string // one of Parts
	Args []string
	// DNS is where it answers; the zero value: it does not.
	DNS netip.AddrPort
	// HandsOver: a second process takes over from the first.
	HandsOver bool
	// Stays says why the process, once started so, is not ended for another one, not even when
	// it does not answer; empty: nothing keeps it from that.
	Stays string
}

// Deps is what a Supervisor is given.
type Deps struct {
	Program string // the file of zonecast
	Parts   []Part
	// Out gets what own children say, a Write a line, from several goroutines.
	Out     io.Writer
	Log     *slog.Logger
	Metrics prometheus.Registerer
}
