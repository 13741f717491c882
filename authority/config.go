package authority

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/authority/ratelimit"
	"github.com/zonecast/zonecast/authority/sample"
	"github.com/zonecast/zonecast/authority/tap"
	"github.com/zonecast/zonecast/record"
)

// Config is what a host's authority needs to know.
type Config struct {
	// trialLease is how long a trial lasts that is not confirmed. Zero: trial.Lease; for tests.
	trialLease time.Duration
	// Listen is where queries are answered, each by UDP and TCP. Port 0 picks one
	// port for both; Server.Addrs tells it.
	Listen []string `option:"listen" help:"address:port to answer DNS on, UDP and TCP; may be given several times"`
	// Dataset is the name of the dataset to answer, as in /datasets/<name>.
	Dataset string `option:"dataset" help:"name of the dataset to answer"`
	// Journal is the directory that the agent writes.
	Journal string `option:"journal" help:"journal directory, written by the agent"`
	// StatusDir is where the file "serving" is written; empty: it is not written.
	StatusDir string `option:"status-dir" help:"directory for the file that says what is served; empty writes none"`
	// Sample is how many questions, drawn at random from those of SampleWindow, are kept in
	// the file "sample" beside it, so that changes can be tried on them: names, types and
	// what came of them, and nothing of who asks. Of n questions a share p of the traffic is
	// told within 2*sqrt(p*(1-p)/n). A worker takes 280 octets for each. Zero keeps none.
	Sample       int           `option:"sample" help:"how many questions, drawn at random and without who asks, are kept to try changes on; 0 keeps none"`
	SampleWindow time.Duration `option:"sample-window" help:"from the questions of which time they are drawn, 10s to 1h"`
	// ImageDir is where the images are kept that are answered from. Empty: in a
	// directory of their own for temporary files, which goes with the process; then a
	// start has to build one before it answers.
	ImageDir string `option:"image-dir" help:"directory for the images that are answered from; empty is a temporary one"`
	// Keys are the files with the publisher's public keys. Data signed by none of
	// them is not served.
	Keys []string `option:"keys" help:"files with the publisher's public keys"`
	// Revoked is a file in which this host's administrator takes trust away, as the agent's;
	// what the agent remembers of revoked keys, in <journal>.revoked, is read, too.
	Revoked string `option:"revoked" help:"file in which keys are revoked on this host, one id a line; need not be there"`

	// UDPWorkers is how many sockets share each UDP address (SO_REUSEPORT), each
	// with its own goroutine. Zero means one for each CPU.
	UDPWorkers int `option:"udp-workers" help:"UDP sockets for each address; 0 is one for each CPU"`
	// MaxUDP is the largest UDP response in octets, whatever the client offers: 512
	// to 4096. Zero means 1232: the IPv6 minimum MTU 1280 less 40 (IPv6) and 8 (UDP),
	// so that nothing is ever fragmented (DNS flag day 2020).
	MaxUDP int `option:"max-udp" help:"largest UDP response in octets; 0 is 1232"`
	// MaxTCP and MaxTCPPerClient bound open TCP connections, overall and for each
	// client address; when all are taken, the one that has been silent longest makes
	// room. Zero means 10000 and 50.
	MaxTCP          int `option:"max-tcp" help:"TCP connections at a time; 0 is 10000"`
	MaxTCPPerClient int `option:"max-tcp-per-client" help:"TCP connections at a time of one client address; 0 is 50"`
	// TCPIdle is how long a TCP connection may be silent between queries. Zero means
	// 10s (RFC 7766 §6.2.3 asks for "a few seconds").
	TCPIdle time.Duration `option:"tcp-idle" help:"how long a silent TCP connection stays open; 0 is 10s"`

	files bool // the data comes from a Source

	// TCPLife is how long a TCP connection may last in all. Zero means 10m.
	TCPLife time.Duration `option:"tcp-life" help:"how long a TCP connection lasts at most; 0 is 10m"`
	// HandOver is the path of a unix socket over which a server that is started hands
	// the sockets of the one that runs on, so that no query is lost by a restart; the
	// latter then ends. Empty: sockets are bound anew.
	HandOver string `option:"hand-over" help:"path of a unix socket by which a server takes over from the one that runs; empty: it does not"`

	// CookieSecrets is a file with the secrets of DNS cookies, which all servers behind
	// one address share; see package cookie. It is read again when it changes. Empty: a
	// secret of this process alone; "off": no cookies.
	CookieSecrets string `option:"cookie-secrets" help:"file with the secrets of DNS cookies, shared by all servers behind one address; empty is one of this process, off makes no cookies"`

	// The limits on equal responses over UDP; see package ratelimit, whose Config this
	// becomes. RateLimit and RateLimitAll zero: nothing is limited.
	RateLimit         int      `option:"rate-limit" help:"equal responses that a client prefix gets by UDP in a second; 0 is no limit"`
	RateLimitNoData   int      `option:"rate-limit-nodata" help:"the same for responses without data; 0 is rate-limit, -1 no limit"`
	RateLimitNoName   int      `option:"rate-limit-nxdomain" help:"the same for NXDOMAIN of one zone; 0 is rate-limit, -1 no limit"`
	RateLimitReferral int      `option:"rate-limit-referral" help:"the same for referrals; 0 is rate-limit, -1 no limit"`
	RateLimitError    int      `option:"rate-limit-error" help:"the same for errors; 0 is rate-limit, -1 no limit"`
	RateLimitAll      int      `option:"rate-limit-all" help:"responses of any kind that a client prefix gets by UDP in a second; 0 is no limit"`
	RateLimitWindow   int      `option:"rate-limit-window" help:"seconds for which a flood is remembered; 0 is 15"`
	RateLimitSlip     int      `option:"rate-limit-slip" help:"each how many-th response over a limit is sent truncated instead of dropped; 0 is 2, -1 never"`
	RateLimitIPv4     int      `option:"rate-limit-ipv4-prefix" help:"length of the prefix that is one client; 0 is 24"`
	RateLimitIPv6     int      `option:"rate-limit-ipv6-prefix" help:"length of the prefix that is one client; 0 is 56"`
	RateLimitBuckets  int      `option:"rate-limit-buckets" help:"buckets of 16 octets that each worker has, a power of two; 0 is 65536"`
	RateLimitExempt   []string `option:"rate-limit-exempt" help:"prefixes of clients that are never limited"`

	// The dnstap options, of which at most one of DnstapSocket and DnstapFile is set:
	// responses are given to a collector, or written to a file; see package tap, whose
	// Config this becomes.
	DnstapSocket     string        `option:"dnstap-socket" help:"unix socket of a dnstap collector, or tcp://HOST:PORT, that gets some of the responses; empty: none"`
	DnstapFile       string        `option:"dnstap-file" help:"file that gets some of the responses as dnstap; at a start, by SIGHUP and at the bounds below it becomes FILE.1, that one FILE.2, and so on; empty: none"`
	DnstapFileSize   int64         `option:"dnstap-file-size" help:"octets of the dnstap file, before it is put aside; 0 is 268435456 (256 MiB), -1 no bound"`
	DnstapFileAge    time.Duration `option:"dnstap-file-age" help:"age of the dnstap file at which it is put aside; 0 is no bound"`
	DnstapFileKeep   int           `option:"dnstap-file-keep" help:"dnstap files that were put aside and are kept; 0 is 4, -1 none"`
	DnstapEvery      int           `option:"dnstap-every" help:"one response of how many is given to dnstap; 0 is 64"`
	DnstapAlways     []string      `option:"dnstap-always" help:"names below which each query is given to dnstap, such as those of beacons"`
	DnstapAlwaysRate int           `option:"dnstap-always-rate" help:"queries of these names that are given to dnstap in a second at most; more are counted as lost; 0 is 10000, -1 no bound"`
	DnstapQueue      int           `option:"dnstap-queue" help:"responses that wait for the collector at most; 0 is 4096"`

	// Version and Identity answer the class CH TXT questions version.bind and
	// hostname.bind / id.server (RFC 4892). Empty: REFUSED.
	Version  string `option:"version-text" help:"text answered to version.bind CH TXT; empty refuses"`
	Identity string `option:"identity" help:"text answered to hostname.bind and id.server CH TXT; empty refuses"`
}

// DefaultConfig answers on the loopback interface.
func DefaultConfig() Config {
	return Config{Listen: []string{"127.0.0.1:53"}, Dataset: "internal", Sample: defaultSample, SampleWindow: defaultSampleWindow}
}

// FileConfig is DefaultConfig for an authority whose data comes from a Source: it
// needs no journal.
func FileConfig() Config {
	c := DefaultConfig()
	c.files = true
	return c
}

// Validate tells what is wrong, in the words of the option.
func (c Config) Validate() error {
	var errs []error
	if len(c.Listen) == 0 {
		errs = append(errs, errors.New("listen: no address, expected at least one such as 127.0.0.1:53"))
	}
	for _, l := range c.Listen {
		if _, err := netip.ParseAddrPort(l); err != nil {
			errs = append(errs, fmt.Errorf("listen: %q is no address and port, expected for example 192.0.2.1:53 or [2001:db8::1]:53", l))
		}
	}
	if c.Dataset == "" {
		errs = append(errs, errors.New("dataset: empty, expected the name of a dataset"))
	}
	if c.Journal == "" && !c.files {
		errs = append(errs, errors.New("journal: empty, expected the directory that the agent writes"))
	}
	if c.Sample < 0 || c.Sample > sample.MaxKept {
		errs = append(errs, fmt.Errorf("sample: %d, expected 0 to %d", c.Sample, sample.MaxKept))
	}
	if c.Sample > 0 && (c.SampleWindow < minSampleWindow || c.SampleWindow > maxSampleWindow) {
		errs = append(errs, fmt.Errorf("sample-window: %s, expected %s to %s", c.SampleWindow, minSampleWindow, maxSampleWindow))
	}
	if c.MaxUDP != 0 && (c.MaxUDP < 512 || c.MaxUDP > 4096) {
		errs = append(errs, fmt.Errorf("max-udp: %d, expected 512 to 4096, or 0 for 1232", c.MaxUDP))
	}
	for _, o := range []struct {
		key         string
		value, most int
	}{{"udp-workers", c.UDPWorkers, 1024}, {"max-tcp", c.MaxTCP, 1 << 20}, {"max-tcp-per-client", c.MaxTCPPerClient, 1 << 20}} {
		if o.value < 0 || o.value > o.most {
			errs = append(errs, fmt.Errorf("%s: %d, expected 0 to %d", o.key, o.value, o.most))
		}
	}
	if c.TCPLife < 0 {
		errs = append(errs, fmt.Errorf("tcp-life: %s, expected 0 or more", c.TCPLife))
	}
	if c.TCPIdle < 0 {
		errs = append(errs, fmt.Errorf("tcp-idle: %s, expected 0 or more", c.TCPIdle))
	}
	if tc, on, err := c.tap(); err != nil {
		errs = append(errs, err)
	} else if on {
		if err := tc.Validate(); err != nil {
			errs = append(errs, err)
		}
	} else if len(c.DnstapAlways) > 0 {
		errs = append(errs, errors.New("dnstap-always: there is no dnstap-socket and no dnstap-file, expected one of them: it would go nowhere"))
	}
	if _, err := c.limits(1); err != nil {
		errs = append(errs, err)
	}
	for _, o := range [][2]string{{"version-text", c.Version}, {"identity", c.Identity}} {
		if len(o[1]) > 255 {
			errs = append(errs, fmt.Errorf("%s: %d octets, at most 255 fit a TXT string", o[0], len(o[1])))
		}
	}
	return errors.Join(errs...)
}

// samples tells whether a sample of questions is kept.
func (c Config) samples() bool { return c.StatusDir != "" && c.Sample > 0 }

// tap is what the dnstap options say; on is false when there are none.
func (c Config) tap() (tc tap.Config, on bool, err error) {
	var always []record.Name
	for _, text := range c.DnstapAlways {
		name, err := record.ParseName(text)
		if err != nil || name == record.Root {
			return tc, false, fmt.Errorf("dnstap-always: %.300q, expected a name such as beacon.example.net", text)
		}
		always = append(always, name)
	}
	return tap.Config{
		Always: always,
		Socket: c.DnstapSocket, File: c.DnstapFile, FileSize: c.DnstapFileSize, FileAge: c.DnstapFileAge, FileKeep: c.DnstapFileKeep,
		Every: c.DnstapEvery, AlwaysRate: c.DnstapAlwaysRate, Queue: c.DnstapQueue, Identity: c.Identity, Version: c.Version,
	}, c.DnstapSocket != "" || c.DnstapFile != "", nil
}

// limits is what the rate-limit options say, for a number of workers that share them.
func (c Config) limits(workers int) (ratelimit.Config, error) {
	r := ratelimit.Config{
		PerSecond: c.RateLimit, NoDataPerSecond: c.RateLimitNoData, NoNamePerSecond: c.RateLimitNoName, ReferralPerSecond: c.RateLimitReferral,
		ErrorPerSecond: c.RateLimitError, AllPerSecond: c.RateLimitAll, Window: c.RateLimitWindow, Slip: c.RateLimitSlip,
		IPv4Prefix: c.RateLimitIPv4, IPv6Prefix: c.RateLimitIPv6, Buckets: c.RateLimitBuckets, Workers: workers,
	}
	for _, text := range c.RateLimitExempt {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return r, fmt.Errorf("rate-limit-exempt: %q is no prefix, expected for example 192.0.2.0/24", text)
		}
		r.Exempt = append(r.Exempt, p)
	}
	return r, r.Validate()
}

// Deps is what the authority is given.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Source, unless nil, is answered instead of a journal.
	Source Source
}
