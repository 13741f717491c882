package ratelimit

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

const (
	second = int64(time.Second)
	start  = 1000 * second
)

func limiter(t testing.TB, c Config) *Limiter {
	t.Helper()
	l, err := New(c, Seed{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// times accounts n equal responses at now and counts the actions.
func (l *Limiter) times(n int, client string, class Class, name uint64, now int64) (got [Actions]int) {
	for range n {
		got[l.Account(addr(client), class, name, now)]++
	}
	return got
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("%s: -want +got:\n%s", what, d)
	}
}

func TestOff(t *testing.T) {
	var zero Limiter
	for _, l := range []*Limiter{&zero, limiter(t, Config{})} {
		same(t, "actions", l.times(1000, "192.0.2.1", Positive, 1, start), [Actions]int{1000})
		l.Sweep(start)
		if events, lost := l.Events(nil); len(events) != 0 || lost != 0 {
			t.Errorf("%d events, %d lost; want none", len(events), lost)
		}
	}
}

func TestSlipAndLeak(t *testing.T) {
	for _, c := range []struct {
		slip, leak int
		want       [Actions]int
	}{
		{0, 0, [Actions]int{10, 50, 50}},
		{1, 0, [Actions]int{10, 100, 0}},
		{10, 0, [Actions]int{10, 10, 90}},
		{-1, 0, [Actions]int{10, 0, 100}},
		{-1, 4, [Actions]int{35, 0, 75}},
		{2, 4, [Actions]int{35, 25, 50}},
	} {
		l := limiter(t, Config{PerSecond: 10, Slip: c.slip, Leak: c.leak})
		got := l.times(110, "192.0.2.1", Positive, 1, start)
		same(t, "actions", got, c.want)
		for a := range Actions {
			if n := l.Counters()[Positive][a].Load(); n != uint64(c.want[a]) {
				t.Errorf("counter of %s is %d, want %d", a, n, c.want[a])
			}
		}
	}
}

// TestWhatSharesABucket has pairs of responses: the second is limited when the first
// used the bucket up, or it is not.
func TestWhatSharesABucket(t *testing.T) {
	type response struct {
		client string
		class  Class
		name   uint64
	}
	for _, c := range []struct {
		first, second response
		want          bool
	}{
		{response{"192.0.2.1", Positive, 1}, response{"192.0.2.254", Positive, 1}, true},
		{response{"192.0.2.1", Positive, 1}, response{"::ffff:192.0.2.2", Positive, 1}, true},
		{response{"192.0.2.1", Positive, 1}, response{"192.0.3.1", Positive, 1}, false},
		{response{"192.0.2.1", Positive, 1}, response{"192.0.2.1", Positive, 2}, false},
		{response{"192.0.2.1", Positive, 1}, response{"192.0.2.1", NoName, 1}, false},
		{response{"192.0.2.1", NoName, 1}, response{"192.0.2.9", NoName, 1}, true},
		{response{"192.0.2.1", Error, 1}, response{"192.0.2.1", Error, 2}, true},
		{response{"192.0.2.1", Error, 1}, response{"192.0.2.1", Referral, 1}, false},
		{response{"2001:db8::1", NoData, 1}, response{"2001:db8:0:ff::9", NoData, 1}, true},
		{response{"2001:db8::1", NoData, 1}, response{"2001:db8:0:100::1", NoData, 1}, false},
		{response{"0.0.2.1", NoData, 1}, response{"0:0:0:200::1", NoData, 1}, false},
	} {
		l := limiter(t, Config{PerSecond: 5})
		l.times(5, c.first.client, c.first.class, c.first.name, start)
		got := l.Account(addr(c.second.client), c.second.class, c.second.name, start) != Send
		if got != c.want {
			t.Errorf("%v after %v: limited %v, want %v", c.second, c.first, got, c.want)
		}
	}
}

func TestRates(t *testing.T) {
	l := limiter(t, Config{PerSecond: 10, NoDataPerSecond: 20, NoNamePerSecond: 5, ReferralPerSecond: -1, Slip: -1})
	for class, want := range map[Class]int{Positive: 10, NoData: 20, NoName: 5, Referral: 100, Error: 10} {
		if got := l.times(100, "192.0.2.1", class, 1, start)[Send]; got != want {
			t.Errorf("%s: %d sent, want %d", class, got, want)
		}
	}
}

func TestAllPerSecond(t *testing.T) {
	for _, perSecond := range []int{0, 1000} {
		l := limiter(t, Config{PerSecond: perSecond, AllPerSecond: 50, Slip: -1})
		sent := 0
		for i := range 200 { // no two are equal
			sent += l.times(1, "192.0.2.1", Class(i%int(All)), uint64(i), start)[Send]
		}
		if sent != 50 {
			t.Errorf("PerSecond %d: %d sent, want 50", perSecond, sent)
		}
		if n := l.Counters()[All][Drop].Load(); n != 150 {
			t.Errorf("PerSecond %d: %d dropped by all, want 150", perSecond, n)
		}
	}
}

func TestExempt(t *testing.T) {
	l := limiter(t, Config{PerSecond: 5, Exempt: []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25"), netip.MustParsePrefix("2001:db8::/32")}})
	for client, want := range map[string]int{"192.0.2.200": 100, "::ffff:192.0.2.201": 100, "2001:db8::1": 100, "198.51.100.1": 5} {
		if got := l.times(100, client, Positive, 1, start)[Send]; got != want {
			t.Errorf("%s: %d sent, want %d", client, got, want)
		}
	}
}

// TestWindow floods for a minute and then asks once a second: the debt is remembered
// for the window and no longer.
func TestWindow(t *testing.T) {
	l := limiter(t, Config{PerSecond: 10, Window: 7, Slip: -1})
	now := start
	for range 6000 {
		l.Account(addr("192.0.2.1"), Positive, 1, now)
		now += second / 100
	}
	quiet := 0
	for l.Account(addr("192.0.2.1"), Positive, 1, now) != Send {
		if quiet++; quiet > 100 {
			break
		}
		now += second
	}
	if quiet < 7 || quiet > 8 { // asking costs a tenth of a second a time
		t.Errorf("answered again after %d s, want 7 or 8", quiet)
	}
}

func TestWorkers(t *testing.T) {
	const workers, rate, seconds = 8, 100, 60
	sent := 0
	for w := range workers {
		l := limiter(t, Config{PerSecond: rate, Workers: workers, Window: 1, Slip: -1})
		for i := range 20 * rate * seconds { // a flood of 20 times the rate at each
			at := start + int64(i)*second/(20*rate)
			sent += l.times(1, "192.0.2.1", Positive, 1, at)[Send]
		}
		if w == 0 && sent < rate {
			t.Errorf("one worker sent %d, want the burst of %d", sent, rate)
		}
	}
	// Each burst, and the rate in total. A flood is in debt all the time, so that
	// what is refilled is not sent either.
	if most := workers*rate + rate*seconds; sent > most {
		t.Errorf("%d sent by all, want at most %d", sent, most)
	}
}

func TestEvents(t *testing.T) {
	l := limiter(t, Config{PerSecond: 5, Window: 2, Buckets: 64})
	id := func(events []Event) uint64 { return events[0].Bucket }
	l.times(9, "192.0.2.77", NoName, 1, start)
	began, _ := l.Events(nil)
	network := netip.MustParsePrefix("192.0.2.0/24")
	same(t, "began", began, []Event{{Time: start, Client: network, Class: NoName, Bucket: id(began), Began: true}})

	l.times(1, "192.0.2.78", NoName, 1, start+9*second)
	ended, _ := l.Events(nil)
	same(t, "ended by a query", ended, []Event{{Time: start + 9*second, Client: network, Class: NoName, Bucket: id(began), Limited: 4}})

	l.times(9, "192.0.2.77", NoName, 1, start+20*second)
	l.Sweep(start + 20*second)
	began, _ = l.Events(nil)
	if len(began) != 1 {
		t.Fatalf("%d events, want one: %v", len(began), began)
	}
	l.Sweep(start + 40*second)
	ended, _ = l.Events(nil)
	same(t, "ended by a sweep", ended, []Event{{Time: start + 40*second, Class: NoName, Bucket: id(began), Limited: 4}})

	for i := range 1000 {
		l.times(9, "192.0.2.77", Positive, uint64(i), start+60*second)
	}
	events, lost := l.Events(nil)
	if len(events) != 128 || lost == 0 {
		t.Errorf("%d events and %d lost, want 128 and some", len(events), lost)
	}
	if _, lost = l.Events(nil); lost != 0 {
		t.Errorf("%d lost again", lost)
	}
}

func TestClockStepsBack(t *testing.T) {
	l := limiter(t, Config{PerSecond: 5})
	l.times(1, "192.0.2.1", Positive, 1, start)
	if got := l.times(5, "192.0.2.1", Positive, 1, second); got[Send] != 5 {
		t.Errorf("after the clock stepped back: %v, want 5 sent", got)
	}
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(set{}); n != 64 {
		t.Errorf("a set has %d octets, want the 64 of a cache line", n)
	}
	l := limiter(t, Config{PerSecond: 1})
	if at := uintptr(unsafe.Pointer(&l.sets[0])); at%64 != 0 {
		t.Errorf("the sets begin at %#x, in the middle of a cache line", at)
	}
	if n := len(l.sets) * ways; n != defaultBuckets {
		t.Errorf("%d buckets, want %d", n, defaultBuckets)
	}
}

func TestValidate(t *testing.T) {
	for want, c := range map[string]Config{
		"rate-limit: -1, expected 0 to":                               {PerSecond: -1},
		"rate-limit-window: 3601, expected 0 to 3600":                 {Window: 3601},
		"rate-limit-ipv6-prefix: 65, expected 0 to 64":                {IPv6Prefix: 65},
		"rate-limit-buckets: 100, expected a power of two":            {Buckets: 100},
		"rate-limit-exempt: 192.0.2.1/24 is no prefix":                {Exempt: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
		"rate-limit-exempt: ::ffff:192.0.2.0/120 is no prefix":        {Exempt: []netip.Prefix{netip.MustParsePrefix("::ffff:192.0.2.0/120")}},
		"rate-limit-exempt: invalid Prefix is no prefix":              {Exempt: []netip.Prefix{{}}},
		"configure rate limit: rate-limit-slip: -2, expected -1 to 1": {Slip: -2},
	} {
		if _, err := New(c, Seed{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	if _, err := New(Config{PerSecond: maxRate, Window: 3600, Workers: maxWorkers, IPv4Prefix: 32, IPv6Prefix: 1}, Seed{}); err != nil {
		t.Error(err)
	}
}

// model is a bucket kept as tokens, without a table.
type model struct {
	tokens float64
	at     int64
}

// TestAgainstModel compares with token buckets of unbounded memory. The actions
// may differ only where a token more or less is a matter of rounding.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.IntRange(1, 50).Draw(t, "rate")
		window := rapid.IntRange(1, 20).Draw(t, "window")
		l, err := New(Config{PerSecond: rate, Window: window, Slip: -1}, Seed{7})
		if err != nil {
			t.Fatal(err)
		}
		buckets, now := map[[2]int]*model{}, start
		for range rapid.IntRange(1, 400).Draw(t, "responses") {
			now += int64(rapid.SampledFrom([]int{0, 0, 0, 1, 30, 500, 4000}).Draw(t, "ms")) * second / 1000
			who, name := rapid.IntRange(0, 2).Draw(t, "client"), rapid.IntRange(0, 2).Draw(t, "name")
			m := buckets[[2]int{who, name}]
			if m == nil {
				m = &model{float64(rate), now}
				buckets[[2]int{who, name}] = m
			}
			m.tokens, m.at = min(float64(rate), m.tokens+float64(now-m.at)/1e9*float64(rate)), now
			left := m.tokens - 1
			m.tokens = max(left, -float64(rate*window))
			got := l.Account(netip.AddrFrom4([4]byte{198, 51, byte(who), 1}), Positive, uint64(name), now)
			if (got == Send) != (left >= 0) && (left > 1e-3 || left < -1e-3) {
				t.Fatalf("%s with %f tokens left", got, left)
			}
		}
	})
}

// TestFlood simulates a minute of three kinds at a time: random prefixes, one victim,
// and honest prefixes that stay below the rate. The honest must not notice, the
// victim must be protected, and memory is what it was.
func TestFlood(t *testing.T) {
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 42))
		l := limiter(t, Config{PerSecond: 10, Buckets: 1 << 12})
		memory := len(l.sets)
		var honest, victim [Actions]int
		now := start
		for range 600_000 { // 10,000 a second
			now += second / 10_000
			switch n := random.IntN(100); {
			case n < 90:
				var a [4]byte
				binary.BigEndian.PutUint32(a[:], random.Uint32()|1<<31) // not the others
				l.Account(netip.AddrFrom4(a), NoName, 1, now)
			case n < 95: // 500 a second
				victim[l.Account(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), NoName, 1, now)]++
			default: // 100 prefixes of 5 a second each
				honest[l.Account(netip.AddrFrom4([4]byte{11, 0, byte(random.IntN(100)), 1}), NoName, 1, now)]++
			}
		}
		total := honest[Send] + honest[Slip] + honest[Drop]
		// Five a second of ten allowed: by chance one exceeds a burst now and then.
		if limited := total - honest[Send]; limited*1000 > total {
			t.Errorf("seed %d: %d of %d honest responses limited, want at most one in 1000", seed, limited, total)
		}
		if most := 10 * (60 + 1); victim[Send] > most {
			t.Errorf("seed %d: the victim got %d whole responses, want at most %d", seed, victim[Send], most)
		}
		if len(l.sets) != memory {
			t.Errorf("seed %d: %d sets, want %d", seed, len(l.sets), memory)
		}
		t.Logf("seed %d: honest %v, victim %v (send, slip, drop)", seed, honest, victim)
	}
}

func TestNoAllocation(t *testing.T) {
	l := limiter(t, Config{PerSecond: 2, AllPerSecond: 100, Buckets: 64, Exempt: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	i := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		i++
		for range 4 {
			l.Account(addr4(i), Positive, i, start)
		}
		l.Sweep(start)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func addr4(i uint64) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(i*0x9e3779b97f4a7c15>>32))
	return netip.AddrFrom4(a)
}

func BenchmarkAccount(b *testing.B) {
	b.Run("off", func(b *testing.B) {
		var l Limiter
		client := addr("192.0.2.1")
		for b.Loop() {
			l.Account(client, Positive, 1, start)
		}
	})
	// 1000 prefixes, of which none is limited.
	b.Run("hit", func(b *testing.B) {
		l := limiter(b, Config{PerSecond: maxRate})
		var clients [1000]netip.Addr
		for i := range clients {
			clients[i] = addr4(uint64(i))
		}
		for i := 0; b.Loop(); i++ {
			l.Account(clients[i%len(clients)], Positive, 1, start+int64(i)*1_000_000)
		}
	})
	b.Run("limited", func(b *testing.B) {
		l, client := limiter(b, Config{PerSecond: 1}), addr("192.0.2.1")
		for i := 0; b.Loop(); i++ {
			l.Account(client, Positive, 1, start+int64(i)*1000)
		}
	})
	// Every response to another prefix: each one evicts.
	b.Run("flood", func(b *testing.B) {
		l := limiter(b, Config{PerSecond: 10})
		for i := uint64(0); b.Loop(); i++ {
			l.Account(addr4(i), Positive, 1, start+int64(i)*100)
		}
	})
	b.Run("flood-and-all", func(b *testing.B) {
		l := limiter(b, Config{PerSecond: 10, AllPerSecond: 100})
		for i := uint64(0); b.Loop(); i++ {
			l.Account(addr4(i), Positive, 1, start+int64(i)*100)
		}
	})
}

func BenchmarkSweep(b *testing.B) {
	l := limiter(b, Config{PerSecond: 10})
	for i := range uint64(1 << 17) {
		l.Account(addr4(i), Positive, 1, start)
	}
	for b.Loop() {
		l.Sweep(start + second)
	}
}
