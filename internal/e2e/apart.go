package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
)

// Kinds are the stages that run as processes of their own, in the order in which
// data goes.
var kinds = []string{"store", "registry", "update", "mutator", "presenter", "canary", "publisher", "agent", "authority", "monitor"}

// ApartOptions say what is started; empty fields are left out.
type ApartOptions struct {
	Hosts int // default 3
	Zones string
	Fleet string
	// Store is a store that runs already, as --store has it; empty: one is a stage.
	Store string
	// Canary has trials judged.
	Canary bool
	// Operators is a file of operators: only they may act, and hand overrides to hosts.
	Operators string
	// Extra are options added to every stage of a kind: tests shorten times by them.
	Extra map[string][]string
}

// Apart is every stage of zonecast as its own process over one shared store: two of
// each stage that is elected, one registry and one monitor, an agent and an authority
// for each host. The commands are those of docs/running.md.
type Apart struct {
	Dir   string
	API   string
	Store string // host:port of its own
	Hosts []netip.AddrPort
	// Publishers are where snapshots are, as host:port.
	Publishers []string
	Direct     []string // where hosts take overrides from operators; none without them
	Stages     []*Stage

	t testing.TB
}

// Stage is one process of a stage, in one life after another.
type Stage struct {
	Kind string
	Name string // "presenter0", "agent2"
	Args []string
	// In begins its command: what starts a command somewhere else, as in a namespace.
	In []string

	apart *Apart
	log   *os.File // standard error of all lives

	mu     sync.Mutex // guards below
	p      *Process   // nil before the first life
	wanted bool       // it is meant to live: when it ends, that is a fault
	faults []string   // ends that nobody asked for
	cpu    time.Duration
}

// NewApart lays everything out and starts nothing. What is started ends with the test.
func NewApart(t testing.TB, o ApartOptions) *Apart {
	t.Helper()
	if o.Hosts == 0 {
		o.Hosts = 3
	}
	const electable = 2
	base := FreePorts(t, 2*o.Hosts+3+electable)
	a := &Apart{Dir: t.TempDir(), Hosts: Addresses(base, o.Hosts), t: t}
	local := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", base+o.Hosts+i) }
	a.Store, a.API = local(0), local(1)
	shared := []string{"--store", cmp.Or(o.Store, "etcd://"+a.Store)}
	key := a.Path("keys", "publisher.key")

	add := func(kind string, i int, args ...string) {
		s := &Stage{Kind: kind, Name: fmt.Sprintf("%s%d", kind, i), apart: a}
		s.Args = append([]string{"run", kind, "--log-format", "text"}, args...)
		s.Args = append(s.Args, o.Extra[kind]...)
		a.Stages = append(a.Stages, s)
	}
	if o.Store == "" {
		add("store", 0, "--etcd-dir", a.Path("store"), "--etcd-listen", a.Store)
	}
	var operators []string
	if o.Operators != "" {
		operators = []string{"--control-operators", o.Operators}
	}
	add("registry", 0, slices.Concat(shared, []string{"--api", a.API, "--fleet", o.Fleet}, operators)...)
	for i := range electable {
		add("update", i, append(shared, "--zones", o.Zones)...)
		add("mutator", i, shared...)
		add("presenter", i, shared...)
		if o.Canary {
			add("canary", i, shared...)
		}
		a.Publishers = append(a.Publishers, local(3+i))
		add("publisher", i, append(shared, "--http", local(3+i), "--publisher-url", "http://"+local(3+i),
			"--publisher-dir", a.Path(fmt.Sprintf("snapshots%d", i)), "--publisher-key", key)...)
	}
	for i, dns := range a.Hosts {
		host := fmt.Sprintf("host%d", i)
		journal, status := a.Path(host, "journal"), a.Path(host, "status")
		if o.Operators != "" {
			a.Direct = append(a.Direct, local(3+electable+i))
			operators = []string{"--agent-operators", o.Operators, "--agent-direct", a.Direct[i]}
		}
		add("agent", i, append(slices.Concat(shared, operators), "--agent-host", host, "--agent-dns", dns.String(),
			"--agent-journal", journal, "--agent-status-dir", status, "--agent-keys", key+".pub")...)
		add("authority", i, "--authority-listen", dns.String(), "--authority-journal", journal,
			"--authority-status-dir", status, "--authority-image-dir", filepath.Join(filepath.Dir(status), "images"), "--authority-keys", key+".pub", "--authority-udp-workers", "1")
	}
	add("monitor", 0, append(shared, "--http", local(2))...)
	for _, s := range a.Stages {
		var err error
		if s.log, err = os.Create(a.Path(s.Name + ".log")); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(a.end)
	return a
}

// Path is a path below the directory of a.
func (a *Apart) Path(elem ...string) string {
	return filepath.Join(append([]string{a.Dir}, elem...)...)
}

// Of are the stages of a kind.
func (a *Apart) Of(kind string) []*Stage {
	var all []*Stage
	for _, s := range a.Stages {
		if s.Kind == kind {
			all = append(all, s)
		}
	}
	return all
}

// Start starts the stages of some kinds; those of hosts wait for the publisher's
// public key, as an operator does who copies it there.
func (a *Apart) Start(kinds ...string) {
	a.t.Helper()
	for _, kind := range kinds {
		if kind == "agent" || kind == "authority" {
			a.awaitFile(a.Path("keys", "publisher.key.pub"))
		}
		for _, s := range a.Of(kind) {
			if err := s.Start(); err != nil {
				a.t.Fatal(err)
			}
		}
	}
}

func (a *Apart) awaitFile(path string) {
	a.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("%s is not there after 20 s", path)
		}
	}
}

// Client connects to the API, which may only just be starting.
func (a *Apart) Client(ctx context.Context) *api.Client {
	a.t.Helper()
	for {
		c, err := api.Dial(ctx, a.API)
		if err == nil {
			a.t.Cleanup(func() { _ = c.Close() })
			return c
		}
		if errors.Is(err, net.ErrClosed) || Pause(ctx, 20*time.Millisecond) != nil {
			a.t.Fatalf("no API at %s: %v", a.API, err)
		}
	}
}

// end kills what still lives, and keeps what the stages said: their ends after a
// failure, and all of it in the directory ZONECAST_KEEP_LOGS.
func (a *Apart) end() {
	for _, s := range a.Stages {
		s.Kill()
		_ = s.log.Close() // a log of a test
	}
	if keep := os.Getenv("ZONECAST_KEEP_LOGS"); keep != "" {
		for _, s := range a.Stages {
			b, err := os.ReadFile(s.log.Name())
			if err == nil {
				err = os.WriteFile(filepath.Join(keep, s.Name+".log"), b, 0o644)
			}
			if err != nil {
				a.t.Log(err)
			}
		}
	}
	if !a.t.Failed() {
		return
	}
	const most = 6 << 10 // octets of each stage's log
	for _, s := range a.Stages {
		b, err := os.ReadFile(s.log.Name())
		if err != nil {
			a.t.Log(err)
			continue
		}
		a.t.Logf("log of %s (its end):\n%s", s.Name, b[max(0, len(b)-most):])
	}
}

// Faults are the ends of processes that nobody asked for.
func (a *Apart) Faults() []string {
	var all []string
	for _, s := range a.Stages {
		s.mu.Lock()
		all = append(all, s.faults...)
		s.mu.Unlock()
	}
	return all
}

// Start begins a life.
func (s *Stage) Start() error {
	if _, err := fmt.Fprintf(s.log, "--- %s starts\n", time.Now().Format("15:04:05.000")); err != nil {
		return err
	}
	binary, err := build()
	if err != nil {
		return err
	}
	argv := slices.Concat(s.In, []string{binary}, s.Args)
	p, err := launch(s.apart.t, argv[0], s.Name, io.Writer(s.log), argv[1:])
	if err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	s.mu.Lock()
	s.p, s.wanted = p, true
	s.mu.Unlock()
	go func() { // ends with the process, which ends with the test
		<-p.exited
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cpu += p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
		if s.wanted && s.p == p {
			s.faults = append(s.faults, fmt.Sprintf("%s ended by itself (%v): %s", s.Name, p.err, lastLine(p.Log())))
		}
	}()
	return nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// Process is the newest life, nil before the first.
func (s *Stage) Process() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// Running tells whether a process of it lives.
func (s *Stage) Running() bool {
	p := s.Process()
	return p != nil && p.Running()
}

// unwanted says that the end that comes is no fault.
func (s *Stage) unwanted() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = false
	return s.p
}

// Kill ends its life by SIGKILL.
func (s *Stage) Kill() {
	if p := s.unwanted(); p != nil {
		p.Kill()
	}
}

// Stop ends its life as an operator does, and says how long it took.
func (s *Stage) Stop(timeout time.Duration) (time.Duration, error) {
	p := s.unwanted()
	began := time.Now()
	p.Signal(syscall.SIGTERM)
	status, err := p.Exit(timeout)
	if err == nil && status != 0 {
		err = fmt.Errorf("%s ended with exit status %d:\n%s", s.Name, status, p.Log())
	}
	return time.Since(began), err
}

// Supervisor kills stages and starts them again, as an init system does.
type Supervisor struct {
	// Kills is how many, by kind.
	Kills map[string]int

	rng       *rand.Rand
	wg        sync.WaitGroup
	mu        sync.Mutex // guards below
	restarted []error
	awaiting  map[*Stage]bool // killed, not started again yet
}

// NewSupervisor makes one whose pauses and victims come from seed.
func NewSupervisor(seed uint64) *Supervisor {
	return &Supervisor{Kills: map[string]int{}, rng: rand.New(rand.NewPCG(seed, 0)), awaiting: map[*Stage]bool{}}
}

// Between gives a random time from lo to hi.
func (v *Supervisor) Between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(v.rng.Int64N(int64(hi-lo)+1))
}

// Kill kills a stage by SIGKILL and starts it again after a pause. False means that
// it is dead already.
func (v *Supervisor) Kill(s *Stage, pause time.Duration) bool {
	v.mu.Lock()
	if v.awaiting[s] {
		v.mu.Unlock()
		return false
	}
	v.awaiting[s] = true
	v.mu.Unlock()
	s.Kill()
	v.Kills[s.Kind]++
	v.wg.Go(func() {
		time.Sleep(pause)
		err := s.Start()
		v.mu.Lock()
		defer v.mu.Unlock()
		v.restarted = append(v.restarted, err)
		delete(v.awaiting, s)
	})
	return true
}

// KillOne kills a stage that lives: each kind is as likely, and each stage of it.
func (v *Supervisor) KillOne(a *Apart, pause time.Duration) *Stage {
	for {
		of := a.Of(kinds[v.rng.IntN(len(kinds))])
		if len(of) == 0 {
			continue // a fleet without it
		}
		if s := of[v.rng.IntN(len(of))]; v.Kill(s, pause) {
			return s
		}
	}
}

// Wait waits until everything that was killed has been started again.
func (v *Supervisor) Wait() error {
	v.wg.Wait()
	return errors.Join(v.restarted...)
}

// Pause waits for d, or for the end of ctx, whose error it then returns.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
