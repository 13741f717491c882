package beacon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/beacon/dnslog"
	"github.com/zonecast/zonecast/beacon/join"
	"github.com/zonecast/zonecast/beacon/token"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rtt"
)

// Deps is what the stage works with.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Beacon measures users.
type Beacon struct {
	cfg     Config
	log     *slog.Logger
	zone    record.Name
	targets map[string]bool // by label: a PoP, the mapped or the anycast one
	proxies []netip.Prefix
	life    token.Lifetime
	script  []byte
	suffix  string // of URLs: ".beacon.example.net:8080/b"
	metrics *metrics
	taps    []net.Listener
	files   *files

	keys   atomic.Pointer[token.Keys]
	keysAt time.Time // of the file that was read; Run's
	clock  *clock    // of tokens
	began  time.Time // by it: what was reported before is not known

	mu      sync.Mutex // guards below
	joiner  *join.Joiner
	starts  *limiter
	reports *limiter
	clients *limiter   // reports, of each client
	others  *limiter   // what a client prefix adds to another row than its own
	fresh   *rtt.Table // what was joined since the files took it
}

// New takes the sockets and the directory, and registers metrics. Run must follow: it closes the
// sockets.
func New(cfg Config, deps Deps) (b *Beacon, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("beacon: %w", err)
	}
	b = &Beacon{
		cfg: cfg, log: deps.Log, targets: map[string]bool{}, life: token.Lifetime{Life: cfg.Life, Skew: cfg.Skew}, script: script(cfg.Rate),
		// Known for longer than its token is good on any clock.
		joiner: join.New(join.Config{Keep: cfg.Life + 2*cfg.Skew + time.Second, Grace: cfg.Grace, Most: cfg.Most}),
		starts: newLimiter(cfg.PerMinute, cfg.Most), reports: newLimiter(cfg.PerMinute, cfg.Most),
		clients: newLimiter(cfg.PerClient, cfg.Most), others: newLimiter(cfg.PerClient, cfg.Most),
	}
	b.clock = newClock(func(by time.Duration) {
		b.log.Warn("the clock went back: tokens go by the time of before until the next start", "jump", by)
	})
	b.began = b.clock.now()
	b.fresh = rtt.New(b.limit())
	b.zone, _ = cfg.targets() // Validate has looked at both
	b.proxies, _ = cfg.proxies()
	for _, label := range append(cfg.PoPs[:len(cfg.PoPs):len(cfg.PoPs)], cfg.Mapped, cfg.Anycast) {
		if label != "" {
			b.targets[label] = true
		}
	}
	b.suffix = "." + strings.TrimSuffix(b.zone.String(), ".")
	if cfg.Port != 0 {
		b.suffix += ":" + strconv.Itoa(cfg.Port)
	}
	b.suffix += pixelPath
	b.keysAt = modified(cfg.Keys) // before it is read: what is written meanwhile is read again
	if cfg.Keys == "" {
		b.keys.Store(token.Random())
	} else if err := b.loadKeys(); err != nil {
		return nil, fmt.Errorf("beacon: %w", err)
	}
	if b.files, err = openFiles(cfg, b.limit(), deps.Log); err != nil {
		return nil, fmt.Errorf("beacon: %w", err)
	}
	if b.metrics, err = newMetrics(b, deps.Metrics); err != nil {
		return nil, fmt.Errorf("beacon: %w", err)
	}
	for _, socket := range cfg.Dnstap {
		l, err := listenOn(socket)
		if err != nil {
			for _, l := range b.taps {
				err = errors.Join(err, l.Close())
			}
			return nil, fmt.Errorf("beacon: dnstap: %w", err)
		}
		b.taps = append(b.taps, l)
	}
	return b, nil
}

// limit is that of each of two tables: what is new, and what is of the newest file.
func (b *Beacon) limit() rtt.Limit {
	return rtt.Limit{Rows: b.cfg.Rows, Octets: int(min(b.cfg.Memory/2, math.MaxInt))}
}

func (b *Beacon) loadKeys() error {
	k, err := token.Load(b.cfg.Keys)
	if err == nil {
		b.keys.Store(k)
	}
	return err
}

// Run works until ctx ends; then what was joined is written.
func (b *Beacon) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range b.taps {
		g.Go(func() error { return b.accept(ctx, l) })
	}
	g.Go(func() error { return b.follow(ctx) })
	return g.Wait()
}

const (
	tick     = 100 * time.Millisecond // in which what has waited long enough is found
	keyCheck = 5 * time.Second        // in which a change of the file of keys is found
)

// follow does what is due.
func (b *Beacon) follow(ctx context.Context) error {
	ticks := time.NewTicker(min(tick, b.cfg.Grace/4))
	defer ticks.Stop()
	written, looked := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			// What waits for its grace has waited enough.
			b.expire(time.Now().Add(b.cfg.Grace))
			b.write(time.Now(), true)
			return nil
		case <-ticks.C:
		}
		now := time.Now()
		b.expire(now)
		if now.Sub(written) >= b.cfg.Write {
			written = now
			b.write(now, false)
		}
		if b.cfg.Keys != "" && now.Sub(looked) >= keyCheck {
			looked = now
			if at := modified(b.cfg.Keys); at != b.keysAt {
				b.keysAt = at
				if err := b.loadKeys(); err != nil {
					b.log.Error("beacon keys cannot be read, those of before hold", "error", err)
				} else {
					b.log.Info("beacon keys are read anew")
				}
			}
		}
	}
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// expire counts what has waited long enough.
func (b *Beacon) expire(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.joiner.Expire(now, b.count)
}

// write hands what is new over to the files.
func (b *Beacon) write(now time.Time, last bool) {
	b.mu.Lock()
	fresh := b.fresh
	b.fresh = rtt.New(b.limit())
	b.mu.Unlock()
	b.files.take(fresh, now, last)
}

// counted is a row that a measurement counts for.
type counted struct {
	key  rtt.Key
	hash uint64 // of who measured
}

// rows are those that a measurement counts for: that of the client itself, and those of who asked for
// it, as far as that can be believed. Who asks is what anybody can say: a resolver passes on the
// client subnet that its client makes up, and a query over UDP comes from any address that somebody writes
// into it. mu is held.
//
//	subnet around the client       counts
//	subnet of the other family     counts: the DNS goes by IPv6 and the page by IPv4, or the other way
//	another subnet                 counts not
//	resolver                       counts
//
// In all but the client's own row a /24 or a /48 is two clients, however many there are in it, and adds
// no more than one client may: so it takes several networks to make a row, or to move one.
func (b *Beacon) rows(j join.Joined) []counted {
	all := []counted{{j.Client, j.Hash}}
	for _, k := range j.By {
		p := j.Client.Prefix
		switch {
		case k == j.Client:
			continue
		case k.Kind == rtt.Client && k.Prefix.Addr().Is4() == p.Addr().Is4() && !k.Prefix.Overlaps(p):
			b.metrics.asked("elsewhere")
			continue
		case !take(b.others, [2]rtt.Key{j.Client, k}, j.At):
			b.metrics.asked("limited")
			continue
		}
		b.metrics.asked("counted")
		all = append(all, counted{k, b.keys.Load().ClientHash(append(p.Addr().AsSlice(), byte(j.Hash>>63)))})
	}
	return all
}

// count adds a measurement to the table. mu is held.
func (b *Beacon) count(j join.Joined) {
	b.metrics.joined(len(j.By) > 0)
	rows := b.rows(j)
	var best, mapped time.Duration
	for _, t := range j.Times {
		switch t.Target {
		case b.cfg.Mapped:
			mapped = t.RTT
			b.metrics.rtt.WithLabelValues("mapped").Observe(t.RTT.Seconds())
		case b.cfg.Anycast:
			b.metrics.rtt.WithLabelValues("anycast").Observe(t.RTT.Seconds())
		default:
			if best == 0 || t.RTT < best {
				best = t.RTT
			}
			for _, r := range rows {
				b.note(b.fresh.Add(rtt.Measurement{Key: r.key, PoP: t.Target, RTT: t.RTT, Client: r.hash, At: j.At}))
			}
		}
	}
	// After the times: a row that has none is the first to go when the table is full. The page was loaded
	// once: its demand is its client's, and that of one resolver.
	resolver := false
	for _, r := range rows {
		if r.key == j.Client || r.key.Kind == rtt.Resolver && !resolver {
			resolver = resolver || r.key.Kind == rtt.Resolver
			b.note(b.fresh.AddDemand(r.key, 1, 0, j.At))
		}
	}
	if best > 0 {
		b.metrics.rtt.WithLabelValues("best").Observe(best.Seconds())
		if mapped > 0 {
			b.metrics.regret.Observe(max(mapped-best, 0).Seconds())
		}
	}
}

// note tells of what cannot be: all that comes here was looked at.
func (b *Beacon) note(err error) {
	if err != nil {
		b.log.Error("measurement is not counted", "error", err)
	}
}

// accept takes the connections of authorities.
func (b *Beacon) accept(ctx context.Context, l net.Listener) error {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var readers sync.WaitGroup
	defer readers.Wait()
	room := make(chan struct{}, maxAuthorities)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			<-room
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept dnstap: %w", err)
			}
			// Out of file descriptors, most likely: others may give some back.
			b.log.Warn("authorities cannot connect, trying again", "listen", l.Addr().String(), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		readers.Go(func() {
			defer func() { <-room }()
			b.metrics.taps.Inc()
			defer b.metrics.taps.Dec()
			if err := dnslog.Read(ctx, conn, b.query, func() { b.metrics.query("malformed") }); err != nil {
				b.log.Warn("dnstap stream of an authority ended without order", "client", conn.RemoteAddr().String(), "error", err)
			}
		})
	}
}

const (
	maxAuthorities = 1024                   // connections of one socket; more wait
	acceptPause    = 100 * time.Millisecond // after an error
)

// query takes what an authority tells of one.
func (b *Beacon) query(q dnslog.Query) {
	key, ok := keyOfSubnet(q.Subnet)
	if !ok {
		key, ok = keyOf(rtt.Resolver, q.From)
	}
	if !ok {
		b.metrics.query("private")
		return
	}
	now := time.Now()
	label, ours := b.tokenOf(q.Name)
	if !ours {
		b.metrics.query("sampled")
		b.mu.Lock()
		defer b.mu.Unlock()
		b.note(b.fresh.AddDemand(key, 0, 1, now))
		return
	}
	t, err := b.keys.Load().Verify(label, b.clock.now(), b.life)
	if err != nil {
		b.metrics.query(reason(err))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.joiner.Asked(join.Asked{ID: t.ID, By: key}, now); err != nil {
		b.metrics.query(reason(err))
		return
	}
	b.metrics.query("taken")
}

// tokenOf gives the token of a name of a measurement, TOKEN.POP.ZONE or below it: browsers ask for
// HTTPS records of ports (RFC 9460 §2.3), such as _8080._https.TOKEN.POP.ZONE. ours is false for names
// that are not below the zone.
func (b *Beacon) tokenOf(wire []byte) (label []byte, ours bool) {
	name, _, err := record.NameFromWire(wire)
	if err != nil || name == b.zone || !name.IsSubdomainOf(b.zone) {
		return nil, false
	}
	for name.Labels() > b.zone.Labels()+2 {
		name = name.Parent()
	}
	if name.Labels() != b.zone.Labels()+2 || !b.targets[name.Parent().FirstLabel()] {
		return nil, true // no token: it is malformed
	}
	return []byte(name.FirstLabel()), true
}

// reason is an error as a label of a metric.
func reason(err error) string {
	switch {
	case errors.Is(err, token.ErrForged):
		return "forged"
	case errors.Is(err, token.ErrExpired):
		return "expired"
	case errors.Is(err, token.ErrFuture):
		return "future"
	case errors.Is(err, join.ErrRepeated):
		return "repeated"
	case errors.Is(err, join.ErrFull):
		return "full"
	}
	return "malformed"
}

// Trouble is what a person should know of; "" is nothing.
func (b *Beacon) Trouble() string { return b.files.trouble() }
