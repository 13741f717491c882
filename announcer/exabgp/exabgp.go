package exabgp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/announcer/route"
)

// ackTimeout is how long an acknowledgement is waited for; ExaBGP answers within its loop of
// 100 ms.
const ackTimeout = time.Second

// Config is the speaker.
type Config struct {
	// AS stands in the path of routes that are prepended; ExaBGP adds it to the others.
	AS uint64
	// NextHop4 and NextHop6 are next hops; the zero value is ExaBGP's "self".
	NextHop4, NextHop6 netip.Addr
}

// Speaker talks to ExaBGP. Its methods may be called concurrently.
type Speaker struct {
	cfg     Config
	log     *slog.Logger
	changed func()
	in      *bufio.Reader
	out     io.Writer
	timeout time.Duration

	mu        sync.Mutex // guards below
	announced map[netip.Prefix]bool
	waiting   string // the line that is not acknowledged yet
	trouble   error
	spoke     bool
}

// New talks over in and out, which are ExaBGP's.
func New(cfg Config, in io.Reader, out io.Writer, log *slog.Logger, changed func()) *Speaker {
	return &Speaker{cfg: cfg, log: log, changed: changed, in: bufio.NewReader(io.LimitReader(in, 1<<40)), out: out, timeout: ackTimeout, announced: map[netip.Prefix]bool{}}
}

// Connect does nothing: sessions are ExaBGP's.
func (s *Speaker) Connect(context.Context) error { return nil }

// Announce says routes.
func (s *Speaker) Announce(ctx context.Context, routes []route.Route) error {
	for _, r := range routes {
		if err := s.say(ctx, s.announce(r), func() { s.announced[r.Prefix] = true }); err != nil {
			return fmt.Errorf("announce %s: %w", r.Prefix, err)
		}
	}
	return nil
}

// Withdraw takes routes back.
func (s *Speaker) Withdraw(ctx context.Context, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if err := s.say(ctx, fmt.Sprintf("withdraw route %s next-hop %s", p, s.hop(p)), func() { delete(s.announced, p) }); err != nil {
			return fmt.Errorf("withdraw %s: %w", p, err)
		}
	}
	return nil
}

func (s *Speaker) hop(p netip.Prefix) string {
	hop := s.cfg.NextHop6
	if p.Addr().Is4() {
		hop = s.cfg.NextHop4
	}
	if hop.IsValid() {
		return hop.String()
	}
	return "self"
}

// announce is the line of a route.
func (s *Speaker) announce(r route.Route) string {
	var b strings.Builder
	fmt.Fprintf(&b, "announce route %s next-hop %s med %d", r.Prefix, s.hop(r.Prefix), r.MED)
	if r.Prepend > 0 {
		fmt.Fprintf(&b, " as-path %s", list(slices.Repeat([]uint64{s.cfg.AS}, 1+r.Prepend)))
	}
	if len(r.Communities) > 0 {
		fmt.Fprintf(&b, " community %s", list(r.Communities))
	}
	if len(r.LargeCommunities) > 0 {
		fmt.Fprintf(&b, " large-community %s", list(r.LargeCommunities))
	}
	return b.String()
}

func list[T any](all []T) string {
	words := make([]string, len(all))
	for i, x := range all {
		words[i] = fmt.Sprint(x)
	}
	return "[" + strings.Join(words, " ") + "]"
}

// say writes a line and waits for its acknowledgement, or for the time that it may take: then
// it stays under way, and others are refused until it is through. done is called under mu.
func (s *Speaker) say(ctx context.Context, line string, done func()) error {
	s.mu.Lock()
	if s.waiting != "" {
		defer s.mu.Unlock()
		return fmt.Errorf("ExaBGP has not acknowledged %q yet: does it run with exabgp.api.ack=true?", s.waiting)
	}
	s.waiting = line
	s.mu.Unlock()
	result := make(chan error, 1)
	go func() {
		err := s.exchange(line)
		s.mu.Lock()
		was := s.trouble
		s.waiting, s.trouble, s.spoke = "", err, true
		if err == nil {
			done()
		}
		s.mu.Unlock()
		result <- err
		if (was == nil) != (err == nil) {
			s.changed()
		}
	}()
	t := time.NewTimer(s.timeout)
	defer t.Stop()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fmt.Errorf("ExaBGP has not acknowledged %q within %v: does it run with exabgp.api.ack=true?", line, s.timeout)
	}
}

// maxAck bounds a line of ExaBGP's, in octets.
const maxAck = 4096

func (s *Speaker) exchange(line string) error {
	if _, err := io.WriteString(s.out, line+"\n"); err != nil {
		return fmt.Errorf("write to ExaBGP: %w", err)
	}
	for {
		answer, err := s.in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull), len(answer) > maxAck:
			return errors.New("ExaBGP answers a line without an end")
		case err != nil:
			return fmt.Errorf("ExaBGP is gone: %w", err)
		}
		switch text := strings.TrimSpace(string(answer)); text {
		case "done":
			return nil
		case "error":
			return fmt.Errorf("ExaBGP refuses %q: its log says why", line)
		case "shutdown":
			return errors.New("ExaBGP ends")
		default:
			s.log.Debug("ExaBGP said something else", "line", text)
		}
	}
}

// Peers is ExaBGP itself: how its sessions are it does not say here.
func (s *Speaker) Peers() []route.PeerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := route.PeerState{Peer: "exabgp", State: "established", Established: true}
	switch {
	case s.waiting != "":
		p = route.PeerState{Peer: "exabgp", State: "waiting", Why: fmt.Sprintf("it has not acknowledged %q", s.waiting)}
	case s.trouble != nil:
		p = route.PeerState{Peer: "exabgp", State: "failed", Why: s.trouble.Error()}
	case !s.spoke:
		p = route.PeerState{Peer: "exabgp", State: "idle", Why: "nothing was said to it yet"}
	}
	return []route.PeerState{p}
}

// Stop takes back what is announced, as ExaBGP keeps the routes of a process that ended; with
// keep it stays.
func (s *Speaker) Stop(keep bool) error {
	if keep {
		return nil
	}
	s.mu.Lock()
	var left []netip.Prefix
	for p := range s.announced {
		left = append(left, p)
	}
	s.mu.Unlock()
	if len(left) == 0 {
		return nil
	}
	slices.SortFunc(left, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return s.Withdraw(context.Background(), left)
}
