package beacon

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/beacon/token"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rtt"
)

// Config is what a person may set.
type Config struct {
	// Listen is where users come: the script, tokens and reports. A proxy before it does TLS.
	Listen string `option:"listen" help:"address:port that users' browsers come to: script, tokens, reports"`
	// Dnstap are sockets on which authorities tell of their queries.
	Dnstap []string `option:"dnstap" help:"sockets that authorities send dnstap to: paths of unix sockets, or tcp://ADDRESS:PORT"`
	// Zone is what all names of measurements are below: TOKEN.POP.ZONE.
	Zone string `option:"zone" help:"name that the names of measurements are below, such as beacon.example.net"`
	// PoPs are those that are measured, each a label below Zone.
	PoPs []string `option:"pops" help:"PoPs that are measured; each is a label below the zone, whose wildcard leads there"`
	// Mapped and Anycast are two labels more; empty: it is not measured.
	Mapped  string `option:"mapped" help:"label whose wildcard is answered by the map; empty: none"`
	Anycast string `option:"anycast" help:"label whose wildcard has the anycast address; empty: none"`
	// PoP is this one, where the service is one of those that browsers measure.
	PoP string `option:"pop" help:"PoP that this process is at, where browsers fetch from it what is measured; empty: it is at none"`
	// Port is that of the URLs that are measured.
	Port int `option:"port" help:"port of the URLs that are measured; 0: that of the page's scheme"`

	// Rate is the part of page loads that measure.
	Rate float64 `option:"rate" help:"part of the page loads that measure, above 0 and up to 1"`
	// Targets is how many PoPs one page load measures.
	Targets int `option:"targets" help:"PoPs that one page load measures, chosen by chance"`
	// Origins are the pages that may measure.
	Origins []string `option:"origins" help:"origins of pages that may measure, such as https://www.example.net; none: all"`
	// Proxies are believed what they say of clients in X-Forwarded-For.
	Proxies []string `option:"proxies" help:"prefixes of proxies whose X-Forwarded-For is believed; none: clients come themselves"`
	// PerMinute is how many measurements and reports a client prefix may make.
	PerMinute int `option:"per-minute" help:"measurements that one client prefix (/24, /48) may begin in a minute, and as many reports"`
	// PerClient is how many reports one client of it may make: who lies is no more than that.
	PerClient int `option:"per-client" help:"reports of them that one client (an IPv4 address, a /64) may make"`

	Keys string        `option:"keys" help:"file with the keys of tokens, shared by all beacon servers; empty: one of this process alone"`
	Life time.Duration `option:"token-life" help:"how long a measurement may take from its token to its report"`
	Skew time.Duration `option:"clock-skew" help:"how far clocks of servers that share keys may be apart"`
	// Grace is how long a report waits for what authorities tell.
	Grace time.Duration `option:"grace" help:"how long a report waits for what authorities tell of its names; dnstap comes once a second"`
	Most  int           `option:"measurements" help:"measurements that are under way at a time; more are refused"`

	Out  string        `option:"out" help:"directory that round-trip times are written to"`
	Name string        `option:"name" help:"name of this server in the files that it writes"`
	Slot time.Duration `option:"slot" help:"time that one file is of"`
	Keep time.Duration `option:"keep" help:"how long a file is kept"`
	// Write is how often the newest file is written.
	Write  time.Duration `option:"write" help:"how often the newest file is written"`
	Rows   int           `option:"rows" help:"prefixes that one file has at most; those that were heard of longest ago go first"`
	Memory int64         `option:"memory" help:"octets of memory that the newest file's data may take"`
}

// DefaultConfig measures one page load in a hundred.
func DefaultConfig() Config {
	name, err := os.Hostname()
	if err != nil || checkFileName(name) != nil {
		name = "beacon"
	}
	return Config{
		Listen: "127.0.0.1:7391", Mapped: "map", Anycast: "any",
		Rate: 0.01, Targets: 4, PerMinute: 60, PerClient: 6,
		Life: 2 * time.Minute, Skew: 10 * time.Second, Grace: 5 * time.Second, Most: 1 << 18,
		Name: name, Slot: 5 * time.Minute, Keep: 24 * time.Hour, Write: 10 * time.Second, Rows: 200_000, Memory: 1 << 30,
	}
}

// Bounds: our choice.
const (
	maxPoPs    = 256
	maxSockets = 16
	maxSlots   = 2880
	maxMost    = 1 << 24
)

// Validate tells what is wrong, in the words of the option.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := netip.ParseAddrPort(c.Listen); err != nil {
		wrong("listen: %.100q, expected an address and port such as 127.0.0.1:7391", c.Listen)
	}
	if len(c.Dnstap) > maxSockets {
		wrong("dnstap: %d sockets, expected at most %d", len(c.Dnstap), maxSockets)
	}
	for _, s := range c.Dnstap {
		if at, tcp := strings.CutPrefix(s, tcpScheme); tcp {
			if _, err := netip.ParseAddrPort(at); err != nil {
				wrong("dnstap: %.200q, expected the path of a unix socket, or for example tcp://192.0.2.1:6000", s)
			}
		} else if s == "" || len(s) > maxSocket {
			wrong("dnstap: a path of %d octets, expected 1 to %d", len(s), maxSocket)
		}
	}
	if _, err := c.targets(); err != nil {
		errs = append(errs, err)
	}
	if c.PoP != "" && !slices.Contains(c.PoPs, c.PoP) {
		wrong("pop: %.100q is none of pops", c.PoP)
	}
	if c.Port < 0 || c.Port > 65535 {
		wrong("port: %d, expected 0 to 65535", c.Port)
	}
	if !(c.Rate > 0 && c.Rate <= 1) {
		wrong("rate: %v, expected above 0 and up to 1", c.Rate)
	}
	if c.Targets < 1 || c.Targets > maxTimes-2 {
		wrong("targets: %d, expected 1 to %d", c.Targets, maxTimes-2)
	}
	for _, o := range c.Origins {
		if scheme, host, ok := strings.Cut(o, "://"); !ok || scheme != "http" && scheme != "https" || host == "" || strings.ContainsAny(host, "/ ") {
			wrong("origins: %.200q, expected for example https://www.example.net", o)
		}
	}
	if _, err := c.proxies(); err != nil {
		errs = append(errs, err)
	}
	if c.PerMinute < 1 || c.PerMinute > math.MaxInt32 {
		wrong("per-minute: %d, expected 1 to %d", c.PerMinute, math.MaxInt32)
	}
	if c.PerClient < 1 || c.PerClient > math.MaxInt32 {
		wrong("per-client: %d, expected 1 to %d", c.PerClient, math.MaxInt32)
	}
	for _, o := range []struct {
		key               string
		value, least, top time.Duration
	}{
		{"token-life", c.Life, 5 * time.Second, time.Hour},
		{"clock-skew", c.Skew, 0, 5 * time.Minute},
		{"grace", c.Grace, 100 * time.Millisecond, time.Minute},
		{"slot", c.Slot, time.Second, 24 * time.Hour},
		{"write", c.Write, 100 * time.Millisecond, time.Hour},
		{"keep", c.Keep, time.Second, 30 * 24 * time.Hour},
	} {
		if o.value < o.least || o.value > o.top {
			wrong("%s: %v, expected %v to %v", o.key, o.value, o.least, o.top)
		}
	}
	if c.Keep < c.Slot || c.Keep/max(c.Slot, 1) > maxSlots {
		wrong("keep: %v of slots of %v, expected 1 to %d slots", c.Keep, c.Slot, maxSlots)
	}
	if c.Most < 16 || c.Most > maxMost {
		wrong("measurements: %d, expected 16 to %d", c.Most, maxMost)
	}
	if c.Out == "" {
		wrong("out: empty, expected the directory that round-trip times are written to")
	}
	if err := checkFileName(c.Name); err != nil {
		errs = append(errs, fmt.Errorf("name: %w", err))
	}
	if c.Rows < 1 || c.Rows > 1<<26 {
		wrong("rows: %d, expected 1 to %d", c.Rows, 1<<26)
	}
	if c.Memory < 1<<20 {
		wrong("memory: %d, expected %d or more", c.Memory, 1<<20)
	}
	return errors.Join(errs...)
}

// targets is what measurements may name below the zone.
func (c Config) targets() (zone record.Name, err error) {
	zone, err = record.ParseName(c.Zone)
	if err != nil || zone == record.Root {
		return zone, fmt.Errorf("zone: %.300q, expected a name such as beacon.example.net", c.Zone)
	}
	if len(c.PoPs) == 0 || len(c.PoPs) > maxPoPs {
		return zone, fmt.Errorf("pops: %d, expected 1 to %d", len(c.PoPs), maxPoPs)
	}
	seen := map[string]bool{}
	for i, label := range append(slices.Clone(c.PoPs), c.Mapped, c.Anycast) {
		if i >= len(c.PoPs) && label == "" {
			continue
		}
		if err := checkLabel(label); err != nil {
			return zone, err
		}
		if seen[label] {
			return zone, fmt.Errorf("pops, mapped and anycast: %q is there twice", label)
		}
		seen[label] = true
	}
	child, err := zone.Child(strings.Repeat("x", 63))
	if err == nil {
		_, err = child.Child(strings.Repeat("x", token.Size))
	}
	if err != nil {
		return zone, fmt.Errorf("zone: %s is so long that no names fit below it", zone)
	}
	return zone, nil
}

// checkLabel tells what is wrong with a PoP's name as a label of a URL's host (RFC 1123 §2.1), in lower
// case.
func checkLabel(label string) error {
	if err := rtt.CheckPoP(label); err != nil {
		return fmt.Errorf("pops: %w", err)
	}
	if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("pops: %q, expected lower-case letters, digits and hyphens: it is part of a URL", label)
	}
	return nil
}

func (c Config) proxies() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range c.Proxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Errorf("proxies: %.100q, expected an address or a prefix such as 192.0.2.0/24", text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

func checkFileName(name string) error {
	if name == "" || len(name) > 100 || name[0] == '.' || strings.ContainsAny(name, "/\x00") || strings.Contains(name, "@") {
		return fmt.Errorf("%.120q, expected 1 to 100 characters without / and @, the first no dot", name)
	}
	return nil
}

// split gives network and address of a socket.
func split(socket string) (network, address string) {
	if at, tcp := strings.CutPrefix(socket, tcpScheme); tcp {
		return "tcp", at
	}
	return "unix", socket
}

const (
	tcpScheme = "tcp://"
	// maxSocket is the longest path of a unix socket: sun_path has 108 octets, the last of
	// which is zero (unix(7)).
	maxSocket = 107
)

// listen binds a socket; a unix socket that nobody listens on is replaced.
func listenOn(socket string) (net.Listener, error) {
	network, address := split(socket)
	if network == "unix" {
		if info, err := os.Lstat(address); err == nil && info.Mode()&os.ModeSocket != 0 {
			if c, err := net.DialTimeout(network, address, time.Second); err == nil {
				c.Close()
				return nil, fmt.Errorf("listen on %s: another process does", address)
			}
			if err := os.Remove(address); err != nil {
				return nil, fmt.Errorf("listen on %s: %w", address, err)
			}
		}
	}
	return net.Listen(network, address)
}
