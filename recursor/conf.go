package recursor

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// zone is one of the dataset's, as far as Unbound is told of it.
type zone struct {
	apex record.Name
	// signed: there are keys at the apex, and validation is as for any zone. Otherwise
	// it is a negative trust anchor (RFC 7646): what the public DNS says about a zone of
	// this name does not hold for the dataset's.
	signed bool
}

func compareZones(x, y zone) int { return x.apex.Compare(y.apex) }

// expiredWait is how many milliseconds servers have before an expired answer is given.
// With 0 Unbound gives the expired one first and asks then: a flushed name would be
// answered as it was once more.
const expiredWait = 300

// maxThreads bounds the default: control commands and walks of the cache cost each
// thread something.
const maxThreads = 16

// conf writes unbound.conf. Equal input gives equal octets.
func (c Config) conf(zones []zone) ([]byte, error) {
	forwards, err := c.forwards()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	yes := map[bool]string{true: "yes", false: "no"}
	line("# Written by zonecast; changes are lost. Further options go into the file of --recursor-include.")
	line("server:")
	line("  directory: \"%s\"", c.Dir)
	line("  chroot: \"\"")
	line("  username: \"%s\"", c.user())
	line("  pidfile: \"\"")
	line("  do-daemonize: no")
	line("  use-syslog: no")
	line("  logfile: \"\"")
	line("  verbosity: 1")
	threads := c.Threads
	if threads == 0 {
		threads = min(runtime.NumCPU(), maxThreads)
	}
	line("  num-threads: %d", threads)
	slabs := 1
	for slabs < threads {
		slabs *= 2
	}
	for _, cache := range []string{"msg", "rrset", "infra", "key"} {
		line("  %s-cache-slabs: %d", cache, slabs)
	}
	line("  rrset-cache-size: %d", c.CacheSize)
	line("  msg-cache-size: %d", c.CacheSize/2)
	line("  so-reuseport: yes")
	line("  ip-freebind: yes # a service address may come later")
	for _, l := range c.Listen {
		a := netip.MustParseAddrPort(l)
		line("  interface: %s@%d", a.Addr(), a.Port())
	}
	for _, p := range c.Allow {
		line("  access-control: %s allow", p)
	}
	line("  do-not-query-localhost: no")
	line("  infra-keep-probing: yes # the authority comes back soon")
	line("  qname-minimisation: yes")
	line("  hide-version: yes")
	line("  hide-identity: yes")
	line("  extended-statistics: yes")
	line("  prefetch: %s", yes[c.Prefetch])
	line("  serve-expired: %s", yes[c.ServeExpired])
	line("  serve-expired-ttl: 86400")
	line("  serve-expired-client-timeout: %d", expiredWait)
	if c.Anchor == "off" {
		line("  module-config: \"iterator\"")
	} else {
		line("  module-config: \"validator iterator\"")
		line("  auto-trust-anchor-file: \"%s\"", c.anchor())
	}
	seen := map[record.Name]bool{}
	for _, z := range zones {
		if !z.signed {
			line("  domain-insecure: \"%s\"", plain(z.apex))
		}
		for name := range opened(z.apex) {
			if !seen[name] {
				seen[name] = true
				line("  local-zone: \"%s\" transparent", plain(name))
			}
		}
	}
	for _, f := range forwards {
		for name := range opened(f.zone) {
			if !seen[name] && f.zone != record.Root {
				seen[name] = true
				line("  local-zone: \"%s\" transparent", plain(name))
			}
		}
	}
	for _, n := range c.Insecure {
		line("  domain-insecure: \"%s\"", n)
	}
	for _, rr := range c.LocalData {
		line("  local-data: \"%s\"", rr)
	}
	if c.Include != "" {
		line("  include: \"%s\"", c.Include)
	}
	line("remote-control:")
	line("  control-enable: yes")
	line("  control-interface: \"%s\"", c.socket())
	line("  control-use-cert: no")
	for _, z := range zones {
		line("stub-zone:")
		line("  name: \"%s\"", plain(z.apex))
		line("  stub-addr: %s", at(c.authority()))
	}
	for _, f := range forwards {
		if slices.ContainsFunc(zones, func(z zone) bool { return z.apex == f.zone }) {
			continue // the dataset has it: two masters of a name are refused
		}
		line("forward-zone:")
		line("  name: \"%s\"", plain(f.zone))
		for _, a := range f.to {
			line("  forward-addr: %s", at(a))
		}
	}
	return b.Bytes(), nil
}

// anchor is the file of the trust anchor.
func (c Config) anchor() string {
	if c.Anchor == "" {
		return c.path("root.key")
	}
	return c.Anchor
}

func (c Config) authority() netip.AddrPort { return netip.MustParseAddrPort(c.Authority) }

// at is an address as Unbound writes it.
func at(a netip.AddrPort) string { return fmt.Sprintf("%s@%d", a.Addr(), a.Port()) }

// plain is a name as text that means the same within quotes, in a command and in a zone
// file: all but letters, digits and a few more are escaped by number.
func plain(n record.Name) string {
	if n == record.Root {
		return "."
	}
	var b []byte
	for rest := n; rest != record.Root; rest = rest.Parent() {
		for _, c := range []byte(rest.FirstLabel()) {
			switch {
			case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '*', c == '/':
				b = append(b, c)
			default:
				b = fmt.Appendf(b, "\\%03d", c)
			}
		}
		b = append(b, '.')
	}
	return string(b)
}
