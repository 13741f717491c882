package recursor

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// Config is what the recursor of a host needs to know.
type Config struct {
	// Listen is where clients ask, UDP and TCP.
	Listen []string `option:"listen" help:"address:port to answer recursive queries on, UDP and TCP; may be given several times"`
	// Allow are the clients that are answered; others get REFUSED.
	Allow []string `option:"allow" help:"prefixes of the clients that are answered; others are refused"`
	// Authority is the host's own authority, which every zone of the dataset is asked of.
	Authority string `option:"authority" help:"address:port of this host's authority, which all zones of the dataset are asked of"`
	// Dataset, Journal, StatusDir, Keys and Revoked are those of the authority.
	Dataset   string   `option:"dataset" help:"name of the dataset"`
	Journal   string   `option:"journal" help:"journal directory, written by the agent"`
	StatusDir string   `option:"status-dir" help:"directory in which the authority says what it answers"`
	Keys      []string `option:"keys" help:"files with the publisher's public keys"`
	Revoked   string   `option:"revoked" help:"file in which keys are revoked on this host, one id a line; need not be there"`
	// Dir is where unbound.conf, the control socket and the trust anchor are kept.
	Dir string `option:"dir" help:"directory for unbound.conf, the control socket and the trust anchor"`

	// Forward sends queries elsewhere: ADDRESS for all that is in no zone of the dataset,
	// ZONE=ADDRESS for a zone; several of one zone are asked in turn. Empty: Unbound asks
	// the servers of the Internet itself, from the root on.
	Forward []string `option:"forward" help:"[ZONE=]ADDRESS[:PORT] that queries go to, for ZONE or for all outside the dataset; none: from the root servers on"`
	// LocalData are records that Unbound answers itself.
	LocalData []string `option:"local-data" help:"records that Unbound answers itself, such as 'printer.lan. 3600 IN A 192.0.2.9'"`
	// Include is a file of further options, at the end of the section server:.
	Include string `option:"include" help:"file with further options of Unbound's section server:; checked with the rest"`
	// Anchor is where validation begins; "off" validates nothing.
	Anchor string `option:"trust-anchor" help:"file with the trust anchor of the root, kept by Unbound as RFC 5011 says; empty is one in dir, off validates nothing"`
	// Insecure are zones, of those forwarded above all, in which nothing is validated: they
	// are private, or signed wrongly (RFC 7646). Unsigned zones of the dataset need not be
	// given.
	Insecure []string `option:"insecure" help:"zones that are not validated (RFC 7646); the dataset's unsigned ones need not be given"`
	// Prefetch and ServeExpired are Unbound's. An expired answer is given only when the
	// servers have not answered for 300 ms, for at most a day (RFC 8767).
	Prefetch     bool `option:"prefetch" help:"ask again for names that are asked for often before they expire"`
	ServeExpired bool `option:"serve-expired" help:"give expired answers while their servers do not answer, up to a day (RFC 8767)"`
	// Threads is how many threads Unbound has. Zero means one for each CPU, at most 16.
	Threads int `option:"threads" help:"threads of Unbound; 0 is one for each CPU, at most 16"`
	// CacheSize is for RRsets, in octets; messages get half as much more.
	CacheSize int64 `option:"cache-size" help:"octets of the cache of RRsets; that of messages has half as much besides"`

	// Unbound is the program.
	Unbound string `option:"unbound" help:"Unbound's program, 1.13 or later; empty looks for it"`
	// User is the account Unbound changes to.
	User string `option:"user" help:"account that Unbound runs as; empty is unbound when started by root, else nobody else"`
	// Start: Unbound is a child of this process. False: somebody else, such as systemd,
	// runs it on DIR/unbound.conf.
	Start bool `option:"start" help:"start Unbound as a child; false: somebody else runs it on unbound.conf of dir"`
	// Leave: Unbound goes on with its cache when this process ends, and the next takes it
	// over.
	Leave bool `option:"leave" help:"at the end let Unbound go on; the next start takes it over with its cache"`
	// Control is how Unbound is spoken to.
	Control string `option:"control" help:"unix socket of Unbound's remote control; empty is one in dir, @FILE runs unbound-control -c FILE"`
}

// DefaultConfig needs Authority, Journal, StatusDir, Keys and Dir yet.
func DefaultConfig() Config {
	return Config{
		Listen: []string{"127.0.0.1:53"}, Allow: []string{"127.0.0.0/8", "::1/128"}, Dataset: "internal",
		Prefetch: true, ServeExpired: true, CacheSize: 256 << 20, Start: true,
	}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Listen) == 0 {
		wrong("listen: no address, expected at least one such as 192.0.2.1:53")
	}
	for _, l := range c.Listen {
		if a, err := netip.ParseAddrPort(l); err != nil || a.Port() == 0 {
			wrong("listen: %q is no address and port, expected for example 192.0.2.1:53 or [2001:db8::1]:53", l)
		}
	}
	for _, p := range c.Allow {
		if _, err := netip.ParsePrefix(p); err != nil {
			wrong("allow: %q is no prefix, expected for example 192.0.2.0/24", p)
		}
	}
	if a, err := netip.ParseAddrPort(c.Authority); err != nil || a.Port() == 0 || a.Addr().IsUnspecified() {
		wrong("authority: %q, expected where this host's authority listens, such as 127.0.0.1:5300", c.Authority)
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
	if _, err := c.forwards(); err != nil {
		errs = append(errs, err)
	}
	for _, n := range c.Insecure {
		if _, err := record.ParseName(n); err != nil {
			wrong("insecure: %w", err)
		}
	}
	for _, o := range []struct{ key, text string }{{"local-data", strings.Join(c.LocalData, " ")}, {"insecure", strings.Join(c.Insecure, " ")}, {"include", c.Include}, {"trust-anchor", c.Anchor}, {"dir", c.Dir}, {"user", c.User}} {
		if strings.ContainsAny(o.text, "\"\n\r\\") {
			wrong("%s: %q has a quote, a backslash or the end of a line, which unbound.conf cannot have there", o.key, o.text)
		}
	}
	if c.Threads < 0 || c.Threads > 256 {
		wrong("threads: %d, expected 0 to 256", c.Threads)
	}
	if c.CacheSize < 1<<20 {
		wrong("cache-size: %d, expected 1048576 (1 MiB) or more", c.CacheSize)
	}
	return errors.Join(errs...)
}

// forward is a zone and where its queries go.
type forward struct {
	zone record.Name
	to   []netip.AddrPort
}

// forwards reads Forward, by zone in the order given.
func (c Config) forwards() ([]forward, error) {
	var all []forward
	for _, text := range c.Forward {
		zone, to, found := strings.Cut(text, "=")
		if !found {
			zone, to = ".", text
		}
		name, err := record.ParseName(zone)
		if err != nil {
			return nil, fmt.Errorf("forward: %q: %w", text, err)
		}
		addr, err := netip.ParseAddrPort(to)
		if err != nil {
			ip, ipErr := netip.ParseAddr(to)
			if ipErr != nil {
				return nil, fmt.Errorf("forward: %q, expected [ZONE=]ADDRESS[:PORT] such as 192.0.2.1 or corp.example.net=192.0.2.1:5353", text)
			}
			addr = netip.AddrPortFrom(ip, 53)
		}
		at := -1
		for i := range all {
			if all[i].zone == name {
				at = i
			}
		}
		if at < 0 {
			all, at = append(all, forward{zone: name}), len(all)
		}
		all[at].to = append(all[at].to, addr)
	}
	return all, nil
}

// path is a file in Dir.
func (c Config) path(name string) string { return filepath.Join(c.Dir, name) }

// socket is the unix socket that unbound.conf names.
func (c Config) socket() string {
	if c.Control == "" || strings.HasPrefix(c.Control, "@") {
		return c.path("control.sock")
	}
	return c.Control
}

// defaultUser is the account of Debian's and most other packages.
const defaultUser = "unbound"

// user is the account in unbound.conf; empty changes to none.
func (c Config) user() string {
	if c.User == "" && os.Getuid() == 0 {
		return defaultUser
	}
	return c.User
}

// Deps is what the recursor is given.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
}
