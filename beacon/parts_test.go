package beacon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/rtt"
)

func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"198.51.100.1": true, "8.8.8.8": true, "2001:db8::1": true, "2606:4700::1": true, "239.1.1.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "172.16.0.1": false, "172.32.0.1": true, "192.168.3.4": false, "100.64.0.1": false, "100.128.0.1": true,
		"127.0.0.1": false, "169.254.1.1": false, "::1": false, "::": false, "fe80::1": false, "fc00::1": false, "ff02::1": false, "64:ff9b::1": false,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address is public")
	}
	for text, want := range map[string]string{
		"198.51.100.0/24": "198.51.100.0/24", "198.51.100.7/32": "198.51.100.0/24", "198.51.0.0/16": "198.51.0.0/16", "128.0.0.0/7": "", "198.50.0.0/15": "", "2001:db8::/31": "", "2001:db8::/32": "2001:db8::/32", "0.0.0.0/0": "", "10.0.0.0/8": "",
		"192.168.0.0/24": "", "2001:db8:1:2::/64": "2001:db8:1::/48", "2000::/3": "", "fd00::/48": "", "::/0": "",
	} {
		got := ""
		if k, ok := keyOfSubnet(netip.MustParsePrefix(text)); ok {
			got = k.Prefix.String()
		}
		if got != want {
			t.Errorf("%s: %q, expected %q", text, got, want)
		}
	}
	if _, ok := keyOfSubnet(netip.Prefix{}); ok {
		t.Error("no subnet is one")
	}
}

// exhausted is a listener whose first connection finds no file descriptor.
type exhausted struct {
	net.Listener
	asked atomic.Int32
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.asked.Add(1) == 1 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return e.Listener.Accept()
}

func TestAcceptAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &exhausted{Listener: l}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- (&Beacon{log: slog.New(slog.DiscardHandler)}).accept(ctx, e) }()
	for e.asked.Load() < 2 {
		select {
		case err := <-ended:
			t.Fatalf("no authority is accepted any more: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestClientOf(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8:f::/48")}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"198.51.100.1:5", nil, "198.51.100.1"},
		{"[::ffff:198.51.100.1]:5", nil, "198.51.100.1"},
		{"[fe80::1%eth0]:5", nil, "fe80::1"},
		{"198.51.100.1:5", []string{"203.0.113.1"}, "198.51.100.1"},
		{"192.0.2.1:5", nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"203.0.113.1"}, "203.0.113.1"},
		{"192.0.2.1:5", []string{"6.6.6.6, 203.0.113.1"}, "203.0.113.1"},               // what a client says of itself is not believed
		{"192.0.2.1:5", []string{"6.6.6.6", "203.0.113.1 , 192.0.2.2"}, "203.0.113.1"}, // through two proxies
		{"192.0.2.1:5", []string{"203.0.113.1:4711"}, "203.0.113.1"},
		{"192.0.2.1:5", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"192.0.2.1:5", []string{"::ffff:203.0.113.1"}, "203.0.113.1"},
		{"[2001:db8:f::1]:5", []string{"203.0.113.1,,"}, "203.0.113.1"},
		{"192.0.2.1:5", []string{"192.0.2.2"}, "192.0.2.2"},
		{"192.0.2.1:5", []string{"unknown"}, ""},
		{"192.0.2.1:5", []string{"203.0.113.1, _hidden"}, ""},
		{"@", nil, ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		a, ok := clientOf(r, proxies)
		if got := a.String(); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s %q: %s, %v, expected %q", c.remote, c.forwarded, got, ok, c.want)
		}
	}
}

func FuzzClientOf(f *testing.F) {
	f.Add("203.0.113.1, 192.0.2.2")
	f.Add("[2001:db8::1]:5")
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	f.Fuzz(func(t *testing.T, forwarded string) {
		r := &http.Request{RemoteAddr: "192.0.2.1:5", Header: http.Header{"X-Forwarded-For": {forwarded}}}
		if a, ok := clientOf(r, proxies); ok && (!a.IsValid() || a.Is4In6() || a.Zone() != "") {
			t.Errorf("%q: %v", forwarded, a)
		}
	})
}

func FuzzReport(f *testing.F) {
	b := &Beacon{targets: map[string]bool{"esams": true, "map": true}}
	f.Add([]byte(`{"t":"x","m":[["esams",12.5,"esams"],["map",3]]}`))
	f.Add([]byte(`{"t":"x","m":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := b.parse(body)
		if err != nil {
			if !errors.Is(err, errReport) {
				t.Errorf("%v", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, x := range r.times() {
			if !b.targets[x.Target] || seen[x.Target] || !rtt.Valid(x.RTT) {
				t.Errorf("%+v", x)
			}
			seen[x.Target] = true
		}
		if len(seen) == 0 || len(seen) > maxTimes {
			t.Errorf("%d times", len(seen))
		}
	})
}

func TestValidate(t *testing.T) {
	good := testConfig(t)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"listen: ":           func(c *Config) { c.Listen = "here" },
		"dnstap: a path":     func(c *Config) { c.Dnstap = []string{strings.Repeat("x", 108)} },
		"dnstap: \"tcp":      func(c *Config) { c.Dnstap = []string{"tcp://192.0.2.1"} },
		"dnstap: 17 sockets": func(c *Config) { c.Dnstap = make([]string, 17) },
		"zone: ":             func(c *Config) { c.Zone = "" },
		"zone: \".\"":        func(c *Config) { c.Zone = "." },
		"no names fit":       func(c *Config) { c.Zone = strings.Repeat("abcdefghijklm.", 11) + "net" },
		"pops: 0":            func(c *Config) { c.PoPs = nil },
		"pops: PoP \"a b\"":  func(c *Config) { c.PoPs = []string{"a b"} },
		"lower-case":         func(c *Config) { c.PoPs = []string{"ESAMS"} },
		"is there twice":     func(c *Config) { c.Mapped = "esams" },
		"none of pops":       func(c *Config) { c.PoP = "drmrs" },
		"port: ":             func(c *Config) { c.Port = 65536 },
		"rate: 0":            func(c *Config) { c.Rate = 0 },
		"rate: 2":            func(c *Config) { c.Rate = 2 },
		"targets: ":          func(c *Config) { c.Targets = 31 },
		"origins: ":          func(c *Config) { c.Origins = []string{"www.example.net"} },
		"origins: \"https":   func(c *Config) { c.Origins = []string{"https://www.example.net/"} },
		"proxies: ":          func(c *Config) { c.Proxies = []string{"proxy"} },
		"per-minute: ":       func(c *Config) { c.PerMinute = 0 },
		"per-client: ":       func(c *Config) { c.PerClient = 0 },
		"token-life: ":       func(c *Config) { c.Life = 0 },
		"clock-skew: ":       func(c *Config) { c.Skew = -1 },
		"grace: ":            func(c *Config) { c.Grace = time.Hour },
		"slot: ":             func(c *Config) { c.Slot = 0 },
		"write: ":            func(c *Config) { c.Write = 0 },
		"keep: 1m0s of":      func(c *Config) { c.Keep = time.Minute },
		"1 to 2880 slots":    func(c *Config) { c.Slot = time.Second },
		"measurements: ":     func(c *Config) { c.Most = 1 },
		"out: ":              func(c *Config) { c.Out = "" },
		"name: ":             func(c *Config) { c.Name = "a/b" },
		"rows: ":             func(c *Config) { c.Rows = 0 },
		"memory: ":           func(c *Config) { c.Memory = 1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
}

func table(t *testing.T, n int) *rtt.Table {
	t.Helper()
	out := rtt.New(rtt.Limit{})
	for i := range n {
		k, _ := rtt.OfAddr(rtt.Client, netip.AddrFrom4([4]byte{198, 51, byte(i), 1}))
		if err := out.Add(rtt.Measurement{Key: k, PoP: "esams", RTT: time.Millisecond, Client: 1, At: time.Unix(1_800_000_000, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Slots follow each other, age out by the clock, and a disk that is full loses nothing.
func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rtt")
	cfg := Config{Out: dir, Name: "b1", Slot: time.Minute, Keep: 3 * time.Minute}
	open := func() *files {
		f, err := openFiles(cfg, rtt.Limit{Rows: 5}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	rows := func() (n []int) {
		paths, _, err := open().list()
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			b, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			table, err := rtt.Read(b, rtt.Limit{})
			b.Close()
			if err != nil {
				t.Fatal(err)
			}
			n = append(n, table.Len())
		}
		return n
	}
	is := func(what string, want ...int) {
		t.Helper()
		if got := rows(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: rows %v, expected %v", what, got, want)
		}
	}
	f, now := open(), time.Now()
	f.take(rtt.New(rtt.Limit{}), now, false)
	is("nothing")
	f.take(table(t, 2), now, false)
	is("two", 2)
	f.take(table(t, 3), now.Add(30*time.Second), false)
	is("they grow", 3)
	f.take(rtt.New(rtt.Limit{}), now.Add(time.Minute), false) // the slot is over
	f.take(table(t, 1), now.Add(61*time.Second), false)
	is("the next slot", 3, 1)

	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	f.take(table(t, 2), now.Add(70*time.Second), false)
	f.take(rtt.New(rtt.Limit{}), now.Add(3*time.Minute), false) // over, and cannot be written
	if f.failures.Load() != 2 || !strings.Contains(f.trouble(), "cannot be written") {
		t.Errorf("%d failures, trouble %q", f.failures.Load(), f.trouble())
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	f.take(rtt.New(rtt.Limit{}), now.Add(3*time.Minute), false)
	is("after the disk was away", 3, 2)
	if f.trouble() != "" {
		t.Errorf("trouble %q", f.trouble())
	}
	// More than there may be.
	f.take(table(t, 9), now.Add(3*time.Minute+time.Second), false)
	is("bounded", 3, 2, 5)
	if f.evicted.Load() != 4 || f.rows.Load() != 5 {
		t.Errorf("%d evicted, %d rows", f.evicted.Load(), f.rows.Load())
	}
	// Ages out at its end and what is kept.
	f.take(rtt.New(rtt.Limit{}), now.Add(4*time.Minute+time.Second), false)
	is("the first one is gone", 2, 5)
	// A clock that goes back makes a file of its own, and nothing is written over.
	back := open()
	back.take(table(t, 1), now.Add(61*time.Second), false)
	is("a clock that went back", 2, 1, 5)
	// So does the next life.
	later := open()
	later.take(table(t, 4), now.Add(3*time.Minute+time.Second), true)
	is("the next life", 2, 1, 5, 4)
	for _, name := range []string{"other", "x@1.rtt", "x@1.tmp", ".atomic-1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	open() // removes what is old, of whoever, and what was not finished
	for name, want := range map[string]bool{"other": true, "x@1.rtt": false, "x@1.tmp": true, ".atomic-1": false} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListenOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := listenOn(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenOn(path); err == nil || !strings.Contains(err.Error(), "another process does") {
		t.Errorf("two listen: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as one that was killed
	first.Close()
	again, err := listenOn(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenOn(path); err == nil {
		t.Error("a file is listened on")
	}
}

func TestLimiter(t *testing.T) {
	l, now := newLimiter(3, 0), time.Now()
	k := netip.MustParsePrefix("198.51.100.0/24")
	taken := 0
	for i := range 180 {
		at := now.Add(time.Duration(i) * time.Second)
		if may := room(l, k, at); may != take(l, k, at) {
			t.Fatalf("room is %v, and what is taken another thing", may)
		} else if may {
			taken++
		}
	}
	if taken != 9 {
		t.Errorf("%d in three minutes, expected 9", taken)
	}
}

// More measurements at a time have more counters: or honest ones would be taken for those who
// were often here.
func TestLimiterGrows(t *testing.T) {
	for measurements, want := range map[int]int{16: 1 << 16, 1 << 18: 1 << 16, 1<<18 + 4: 1 << 17, 1 << 22: 1 << 20} {
		if n := len(newLimiter(1, measurements).counts); n != want {
			t.Errorf("%d counters for %d measurements, expected %d", n, measurements, want)
		}
	}
}

// A server that starts again goes on with its file, unless that is over, damaged, another's or of the future.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Out: dir, Name: "b1", Slot: time.Hour, Keep: 24 * time.Hour}
	now := time.Now()
	put := func(name string, began time.Time, rows int) {
		t.Helper()
		f := &files{dir: dir, name: name, slot: cfg.Slot, keep: cfg.Keep, log: slog.New(slog.DiscardHandler), table: rtt.New(rtt.Limit{})}
		if f.take(table(t, rows), began, true); f.failed() != nil {
			t.Fatal(f.failed())
		}
	}
	resumed := func() int {
		t.Helper()
		log := &logged{}
		f, err := openFiles(cfg, rtt.Limit{Rows: 50}, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "stay as they are"); n != 0 {
			return -n
		}
		return f.table.Len()
	}
	if n := resumed(); n != 0 {
		t.Errorf("%d rows of nothing", n)
	}
	put("b1", now.Add(-2*time.Hour), 9)
	put("b2", now.Add(-time.Minute), 8)
	if n := resumed(); n != 0 {
		t.Errorf("%d rows, expected neither those of a slot that is over nor those of another server", n)
	}
	put("b1", now.Add(-10*time.Minute), 7)
	for range 20 { // it ends and begins again and again
		f, err := openFiles(cfg, rtt.Limit{Rows: 50}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		f.take(table(t, 7), time.Now(), true)
	}
	paths, _, err := (&files{dir: dir}).list()
	if n := resumed(); err != nil || len(paths) != 3 || n != 7 {
		t.Errorf("%d files, %d rows, %v, expected 3 and 7", len(paths), n, err)
	}
	put("b1", now.Add(-5*time.Minute), 60) // by a release that had more room
	if n := resumed(); n != -1 {
		t.Errorf("%d, expected that more rows than there may be are said", n)
	}
	put("b1", now.Add(time.Hour), 3)
	if n := resumed(); n != 0 {
		t.Errorf("%d rows of the future", n)
	}
}
