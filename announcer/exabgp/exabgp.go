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
	out     io.Writer
	timeout time.Duration
	more    chan struct{} // there are lines to write

	mu    sync.Mutex // guards below
	lines []*line    // those that are not acknowledged, in the order in which they are said
	// last is what was said last of each prefix that ExaBGP may have: an announcement stands
	// there before it is written, and goes when its withdrawal is acknowledged.
	last    map[netip.Prefix]*line
	trouble error // of the last acknowledgement
	gone    error // ExaBGP reads or writes no more
	spoke   bool
}

// line is a command to ExaBGP.
type line struct {
	text     string
	of       netip.Prefix
	withdraw bool
	until    time.Time // is when its acknowledgement is late
	written  bool
	done     chan struct{} // closed when it is acknowledged, or never will be
	err      error         // set before done is closed
}

// maxLines bounds the lines that wait for an acknowledgement: with an ExaBGP that gives none
// only what changes is said, once.
const maxLines = 1000

// New talks over in and out, which are ExaBGP's.
func New(cfg Config, in io.Reader, out io.Writer, log *slog.Logger, changed func()) *Speaker {
	s := &Speaker{cfg: cfg, log: log, changed: changed, out: out, timeout: ackTimeout, more: make(chan struct{}, 1), last: map[netip.Prefix]*line{}}
	// Both end with the process: what they read and write is its standard input and output.
	go s.write()
	go s.read(bufio.NewReaderSize(in, maxAck))
	return s
}

// Connect does nothing: sessions are ExaBGP's.
func (s *Speaker) Connect(context.Context) error { return nil }

// Announce says routes.
func (s *Speaker) Announce(ctx context.Context, routes []route.Route) error {
	said := make([]*line, len(routes))
	for i, r := range routes {
		said[i] = s.say(&line{text: s.announce(r), of: r.Prefix})
	}
	return s.await(ctx, said)
}

// Withdraw takes routes back. It is said also when ExaBGP has not acknowledged what was said
// before.
func (s *Speaker) Withdraw(ctx context.Context, prefixes []netip.Prefix) error {
	said := make([]*line, len(prefixes))
	for i, p := range prefixes {
		said[i] = s.say(&line{text: fmt.Sprintf("withdraw route %s next-hop %s", p, s.hop(p)), of: p, withdraw: true})
	}
	return s.await(ctx, said)
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

// say has a line written, or gives the same one where it is the last of its prefix and under
// way.
func (s *Speaker) say(l *line) *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.last[l.of]; was != nil && was.text == l.text && slices.Contains(s.lines, was) {
		return was
	}
	l.done, l.until = make(chan struct{}), time.Now().Add(s.timeout)
	s.last[l.of] = l
	if s.gone != nil {
		l.end(s.gone)
		return l
	}
	if len(s.lines) == maxLines {
		s.lines[0].end(errors.New("never acknowledged"))
		s.lines = s.lines[1:]
	}
	s.lines = append(s.lines, l)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return l
}

func (l *line) end(err error) {
	l.err = err
	close(l.done)
}

// await waits for acknowledgements, until they are late: what has none by then stays under way,
// and is not waited for again.
func (s *Speaker) await(ctx context.Context, said []*line) error {
	var errs []error
	for _, l := range said {
		t := time.NewTimer(time.Until(l.until))
		select {
		case <-l.done:
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		select {
		case <-l.done: // also when it was late: it is not said again
			if l.err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", l.text, l.err))
			}
			continue
		default:
		}
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
		} else {
			errs = append(errs, fmt.Errorf("%s: ExaBGP has not acknowledged it within %v: does it run with exabgp.api.ack=true?", l.text, s.timeout))
		}
	}
	return errors.Join(errs...)
}

// write writes what is to be said, in its order.
func (s *Speaker) write() {
	for range s.more {
		for {
			s.mu.Lock()
			at := slices.IndexFunc(s.lines, func(l *line) bool { return !l.written })
			if at < 0 {
				s.mu.Unlock()
				break
			}
			l := s.lines[at]
			l.written = true
			s.mu.Unlock()
			if _, err := io.WriteString(s.out, l.text+"\n"); err != nil {
				s.lost(fmt.Errorf("write to ExaBGP: %w", err))
				return
			}
		}
	}
}

// lost ends all that is under way.
func (s *Speaker) lost(err error) {
	s.mu.Lock()
	if s.gone == nil {
		s.gone = err
		for _, l := range s.lines {
			l.end(err)
		}
		s.lines = nil
	}
	s.mu.Unlock()
	s.changed()
}

// maxAck bounds a line of ExaBGP's, in octets.
const maxAck = 4096

// read takes acknowledgements, which come in the order of the lines.
func (s *Speaker) read(in *bufio.Reader) {
	for {
		answer, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			s.lost(errors.New("ExaBGP answers a line without an end"))
			return
		case err != nil:
			s.lost(fmt.Errorf("ExaBGP is gone: %w", err))
			return
		}
		switch text := strings.TrimSpace(string(answer)); text {
		case "done":
			s.acknowledged(nil)
		case "error":
			s.acknowledged(errors.New("ExaBGP refuses it: its log says why"))
		case "shutdown":
			s.lost(errors.New("ExaBGP ends"))
			return
		default:
			s.log.Debug("ExaBGP said something else", "line", text)
		}
	}
}

// acknowledged takes the first line from those under way.
func (s *Speaker) acknowledged(err error) {
	s.mu.Lock()
	if len(s.lines) == 0 || !s.lines[0].written {
		s.mu.Unlock()
		return // of nothing that was said here
	}
	l := s.lines[0]
	s.lines = s.lines[1:]
	if l.withdraw && err == nil && s.last[l.of] == l {
		delete(s.last, l.of)
	}
	was := s.trouble
	if err != nil {
		s.trouble = fmt.Errorf("%s: %w", l.text, err)
	} else {
		s.trouble = nil
	}
	s.spoke = true
	l.end(err)
	s.mu.Unlock()
	if (was == nil) != (err == nil) {
		s.changed()
	}
}

// Peers is ExaBGP itself: how its sessions are it does not say here.
func (s *Speaker) Peers() []route.PeerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := route.PeerState{Peer: "exabgp", State: "established", Established: true}
	switch {
	case s.gone != nil:
		p = route.PeerState{Peer: "exabgp", State: "failed", Why: s.gone.Error()}
	case len(s.lines) > 0:
		p = route.PeerState{Peer: "exabgp", State: "waiting", Why: fmt.Sprintf("it has not acknowledged %q", s.lines[0].text)}
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
	for p := range s.last {
		left = append(left, p)
	}
	s.mu.Unlock()
	if len(left) == 0 {
		return nil
	}
	slices.SortFunc(left, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return s.Withdraw(context.Background(), left)
}
