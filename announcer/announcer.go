package announcer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/announcer/check"
	"github.com/zonecast/zonecast/announcer/floor"
	"github.com/zonecast/zonecast/announcer/route"
	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/atomicfile"
)

// Speaker sends routes to routers.
type Speaker interface {
	// Connect begins the sessions; what is announced before goes out with them.
	Connect(ctx context.Context) error
	// Announce replaces what was sent of the same prefixes. Both may be called again.
	Announce(ctx context.Context, routes []route.Route) error
	Withdraw(ctx context.Context, prefixes []netip.Prefix) error
	Peers() []route.PeerState
	// Stop ends the sessions; with keep, routers may be let believe that they come back.
	Stop(keep bool) error
}

// checker has a verdict on a daemon.
type checker interface {
	// Run keeps it, and calls changed when it is another one, until ctx ends.
	Run(ctx context.Context, changed func()) error
	Verdict() (v check.Verdict, asked bool)
}

const (
	// tick is how often what depends on time is looked at: graces, and what is to be tried again.
	tick = 200 * time.Millisecond
	// askAgain is how long after a refusal the floor is asked again, askTimeout how long it is
	// waited for. The store is asked once a second by each host that is held.
	askAgain   = time.Second
	askTimeout = 3 * time.Second
	// firstVerdicts is how long sessions wait for every check's first result: with graceful
	// restart a router drops what is not announced again at once.
	firstVerdicts = 3 * time.Second
	// linger is how long addresses stay after routes have gone: what is under way still comes.
	linger = time.Second
)

// Announcer announces the VIPs of one host.
type Announcer struct {
	cfg     Config
	deps    Deps
	speaker Speaker
	added   []netip.Addr // to the loopback device, by this life or one before
	remove  func() error // takes them away
	boot    string
	metrics *metrics
	began   time.Time
	kick    chan struct{} // something changed
	told    chan struct{} // the store is to be told
	moved   chan struct{} // the state file is to be written
	write   func(path string, mode fs.FileMode, b []byte) error
	results chan leased
	checks  sync.WaitGroup

	newChecker func(check.Target) checker

	mu       sync.Mutex // guards below, and the vips
	vips     []*vip
	orders   orders
	daemons  []*daemon
	datasets []string // that the host carries
	unread   string   // why that is not known
}

// vip is one VIP. Its times are since the start of the process, by the monotonic clock.
type vip struct {
	name  string
	addrs []route.VIP
	floor *floor.Floor

	state     state.State
	since     time.Duration
	sinceWall time.Time // for people
	health    state.Health
	why       string // of health
	order     state.Order
	orderWhy  string
	lease     state.Lease
	leaseWhy  string
	busy      bool // the floor is being asked
	asked     time.Duration
	mayHave   bool // a lease may lie in the store
	sent      bool // something was sent
	sentState state.State
	trouble   string // why what was sent last was not taken
}

// leased is what the floor said.
type leased struct {
	vip    *vip
	asked  bool // for a lease; otherwise one was given back
	lease  state.Lease
	text   string
	failed error
}

// New takes what can be taken before it runs: addresses and the speaker.
func New(cfg Config, deps Deps) (*Announcer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("announcer: %w", err)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	a := &Announcer{
		cfg: cfg, deps: deps, began: time.Now(), boot: bootID(), kick: make(chan struct{}, 1), told: make(chan struct{}, 1), moved: make(chan struct{}, 1), write: atomicfile.Write,
		results: make(chan leased), remove: func() error { return nil },
	}
	a.newChecker = func(t check.Target) checker { return check.New(t, cfg.Check) }
	m, err := recall(cfg.State)
	if err != nil {
		deps.Log.Warn("state cannot be read: this start is the first", "file", cfg.State, "error", err)
	}
	if err := a.begin(m.Answered); err != nil {
		return nil, err
	}
	for _, address := range cfg.VIPs {
		v := a.vip(address.Name)
		if v == nil {
			v = &vip{name: address.Name, floor: floor.New(cfg.Floor, deps.Store, address.Name, cfg.Host, deps.Now), sinceWall: deps.Now(), mayHave: true, asked: -askAgain}
			v.begin(m, a.boot)
			a.vips = append(a.vips, v)
		}
		v.addrs = append(v.addrs, address)
	}
	if a.metrics, err = newMetrics(a); err != nil {
		return nil, err
	}
	if cfg.Loopback != "" && deps.Addresses != nil {
		addrs := make([]netip.Addr, len(cfg.VIPs))
		for i, v := range cfg.VIPs {
			addrs[i] = v.Address
		}
		var ours []netip.Addr
		if m.Boot == a.boot {
			ours = m.Addresses
		}
		if a.added, a.remove, err = deps.Addresses(cfg.Loopback, addrs, ours); err != nil {
			return nil, fmt.Errorf("addresses of VIPs: %w", err)
		}
		a.save() // before anything can kill it
	}
	if a.speaker, err = deps.Speaker(a.wake); err != nil {
		return nil, errors.Join(err, a.remove())
	}
	return a, nil
}

func (a *Announcer) vip(name string) *vip {
	for _, v := range a.vips {
		if v.name == name {
			return v
		}
	}
	return nil
}

// wake has the loop look, and the store told of sessions.
func (a *Announcer) wake() {
	signal(a.kick)
	signal(a.told)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (a *Announcer) now() time.Duration { return time.Since(a.began) }

// Run announces until ctx ends.
func (a *Announcer) Run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return a.followOrders(running) })
	g.Go(func() error { return a.tell(running) })
	g.Go(func() error { return a.remember(running) })
	g.Go(func() error { return a.loop(running) })
	err := g.Wait()
	a.checks.Wait()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	stopped := a.stop()
	select {
	case <-a.moved:
		a.save()
	default:
	}
	if stopped != nil {
		return errors.Join(err, stopped)
	}
	return err
}

// stop ends the sessions and takes the addresses away. Where routers keep the routes of one who
// restarts, the addresses stay, too.
func (a *Announcer) stop() error {
	keep := a.cfg.Speaker == SpeakerBGP && a.cfg.BGP.GracefulRestart > 0
	err := a.speaker.Stop(keep)
	if keep {
		return err
	}
	if slices.ContainsFunc(a.vips, func(v *vip) bool { return v.sent && v.sentState.Announced() }) {
		time.Sleep(linger)
	}
	if removed := a.remove(); removed != nil {
		return errors.Join(err, removed)
	}
	if len(a.added) > 0 {
		a.added = nil
		signal(a.moved)
	}
	return err
}

// loop steps whenever something changed, and with time. It alone writes the vips.
func (a *Announcer) loop(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	connected := false
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, d := range a.daemons {
		a.start(ctx, d)
	}
	for {
		a.lookCarried(ctx)
		a.mu.Lock()
		for _, v := range a.vips {
			a.step(ctx, v, &asking)
		}
		a.mu.Unlock()
		if !connected && (a.allAsked() || a.now() >= firstVerdicts) {
			if err := a.speaker.Connect(ctx); err != nil {
				return err
			}
			connected = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		case <-a.kick:
		case r := <-a.results:
			a.mu.Lock()
			a.take(r)
			a.mu.Unlock()
		}
	}
}

func (a *Announcer) allAsked() bool {
	for _, d := range a.daemons { // which the loop alone changes
		if _, asked := d.Verdict(); !asked {
			return false
		}
	}
	return true
}

// step brings a VIP to where it belongs now.
func (a *Announcer) step(ctx context.Context, v *vip, asking *sync.WaitGroup) {
	now := a.now()
	health, why := a.judge(v)
	order, orderWhy := a.orders.of(v.name, a.cfg.Host, v.order, v.orderWhy)
	if health != v.health || why != v.why || order != v.order || orderWhy != v.orderWhy {
		reorder := order != v.order
		v.health, v.why, v.order, v.orderWhy = health, why, order, orderWhy
		signal(a.told)
		if reorder {
			a.deps.Log.Info("VIP has an order of a person", "vip", v.name, "order", cmp.Or(order.String(), "none"), "why", orderWhy)
			signal(a.moved)
		}
	}
	in := state.Input{Health: health, Order: order, Lease: v.lease, GraceOver: v.state == state.Draining && now-v.since >= a.cfg.DrainFor}
	wants := state.WantsLease(v.state, in)
	if !wants && v.state.Announced() {
		v.lease, v.leaseWhy, in.Lease = state.NotAsked, "", state.NotAsked
	}
	switch due := now-v.asked >= askAgain; {
	case v.busy:
	case wants && v.lease != state.Granted && (due || v.lease == state.NotAsked):
		v.busy, v.asked, v.mayHave = true, now, true
		able := health == state.Good || health == state.Stale
		asking.Go(func() { a.ask(ctx, v, able, cmp.Or(why, orderWhy, "drained")) })
	case !wants && v.state.Announced() && v.mayHave && due:
		v.busy, v.asked = true, now
		asking.Go(func() { a.giveBack(ctx, v) })
	}
	if next := state.Next(v.state, in); next != v.state {
		a.move(v, next, now)
	}
	a.send(ctx, v)
}

// move changes the state of a VIP.
func (a *Announcer) move(v *vip, next state.State, now time.Duration) {
	why := v.why
	switch {
	case v.order != state.None:
		why = v.orderWhy
	case next == state.Held && v.leaseWhy != "":
		why += "; " + v.leaseWhy
	}
	a.deps.Log.Info("VIP moved", "vip", v.name, "was", v.state.String(), "is", next.String(), "why", why)
	a.metrics.moves.WithLabelValues(v.name, next.String()).Inc()
	was := v.state.Announced()
	v.state, v.since, v.sinceWall = next, now, a.deps.Now()
	if was != next.Announced() {
		signal(a.moved)
	}
	signal(a.told)
}

// send has the routers told, when that was not done yet.
func (a *Announcer) send(ctx context.Context, v *vip) {
	if v.sent && v.sentState == v.state || !v.sent && !v.state.Announced() {
		return
	}
	var err error
	if v.state.Announced() {
		err = a.speaker.Announce(ctx, a.routes(v))
	} else {
		prefixes := make([]netip.Prefix, len(v.addrs))
		for i, r := range v.addrs {
			prefixes[i] = r.Prefix
		}
		err = a.speaker.Withdraw(ctx, prefixes)
	}
	if err != nil {
		if v.trouble != err.Error() {
			a.deps.Log.Error("route not sent, trying again", "vip", v.name, "error", err)
		}
		v.trouble = err.Error()
		return
	}
	v.sent, v.sentState, v.trouble = true, v.state, ""
}

// routes are those of a VIP in its state.
func (a *Announcer) routes(v *vip) []route.Route {
	r := route.Route{MED: uint32(a.cfg.MED), Prepend: a.cfg.Prepend, Communities: a.cfg.Communities, LargeCommunities: a.cfg.LargeCommunities}
	switch v.state {
	case state.Degraded:
		r.MED, r.Prepend, r.Communities = uint32(a.cfg.DegradedMED), r.Prepend+a.cfg.DegradedPrepend, slices.Concat(r.Communities, a.cfg.DegradedCommunities)
	case state.Draining, state.Held:
		r.MED, r.Prepend, r.Communities = uint32(a.cfg.LastMED), r.Prepend+a.cfg.LastPrepend, slices.Concat(r.Communities, a.cfg.LastCommunities)
	}
	out := make([]route.Route, len(v.addrs))
	for i, address := range v.addrs {
		out[i] = r
		out[i].Prefix = address.Prefix
	}
	return out
}

func (a *Announcer) ask(ctx context.Context, v *vip, able bool, why string) {
	short, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	lease, text := v.floor.Ask(short, able, why)
	a.report(ctx, leased{vip: v, asked: true, lease: lease, text: text})
}

func (a *Announcer) giveBack(ctx context.Context, v *vip) {
	short, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	a.report(ctx, leased{vip: v, failed: v.floor.Return(short)})
}

func (a *Announcer) report(ctx context.Context, r leased) {
	select {
	case a.results <- r:
	case <-ctx.Done():
	}
}

// take notes what the floor said.
func (a *Announcer) take(r leased) {
	v := r.vip
	v.busy = false
	if !r.asked {
		v.mayHave = r.failed != nil
		return
	}
	if v.lease != r.lease || v.leaseWhy != r.text {
		signal(a.told)
		if r.lease != state.Granted && v.lease != r.lease {
			a.deps.Log.Warn("VIP is kept announced", "vip", v.name, "why", r.text)
		}
	}
	v.lease, v.leaseWhy = r.lease, r.text
	a.metrics.leases.WithLabelValues(v.name, r.lease.String()).Inc()
}
