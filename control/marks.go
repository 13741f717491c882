package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/store"
)

// marks are how far each stage has come, as its own node in the store says. A
// change is followed through them: registry revision → mutator's progress → the
// head's claims revision → version → hosts.
type marks struct {
	mu       sync.Mutex    // guards below
	changed  chan struct{} // closed and replaced whenever a mark moves
	progress tree.Progress
	// claims is the store revision at which progress.Servers were in the claims.
	claims store.Revision
	heard  bool // the head was read, or that there is none
	head   tree.Head
	hosts  map[string]tree.Host
	// holds and freezes are by id; pin is nil when there is none.
	holds   map[string]tree.Hold
	freezes map[string]tree.Freeze
	pin     *tree.Pin
	// trial is what is tried, nil when nothing is, judged how far it is.
	trial  *trial.Trial
	judged trial.Judgement
}

// move tells those who wait that a mark moved. The caller holds mu.
func (m *marks) move() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (c *Control) followMarks(ctx context.Context, prefix string) error {
	for b := range c.deps.Store.Watch(ctx, prefix, 0) {
		c.marks.mu.Lock()
		moved := c.takeMarks(prefix, b)
		if moved {
			c.marks.move()
		}
		c.marks.mu.Unlock()
	}
	return ctx.Err()
}

func (c *Control) takeMarks(prefix string, b store.Batch) (moved bool) {
	m := &c.marks
	if b.Reset {
		moved = true
		switch prefix {
		case tree.Hosts:
			m.hosts = map[string]tree.Host{}
		case tree.Holds:
			m.holds = map[string]tree.Hold{}
		case tree.Freezes:
			m.freezes = map[string]tree.Freeze{}
		case tree.Pins:
			m.pin = nil
		case tree.Trials:
			m.trial, m.judged = nil, trial.Judgement{}
		case tree.DatasetPrefix(c.cfg.Dataset):
			m.heard = true
		}
	}
	for _, n := range b.Puts {
		var err error
		switch {
		case n.Path == tree.MutatorProgress:
			var p tree.Progress
			if err = tree.Decode(n, &p); err == nil {
				m.progress, m.claims, moved = p, p.Claims, true
				if p.Claims == 0 {
					m.claims = n.Modified
				}
			}
		case n.Path == tree.HeadPath(c.cfg.Dataset):
			var h tree.Head
			if err = tree.Decode(n, &h); err == nil {
				m.head, moved = h, true
			}
		case prefix == tree.Hosts:
			var h tree.Host
			if err = tree.Decode(n, &h); err == nil {
				m.hosts[strings.TrimPrefix(n.Path, tree.Hosts)], moved = h, true
			}
		case prefix == tree.Holds:
			var h tree.Hold
			if err = tree.Decode(n, &h); err == nil && h.Dataset == c.cfg.Dataset {
				m.holds[h.ID], moved = h, true
			}
		case prefix == tree.Freezes:
			f := tree.Freeze{}
			if err = tree.Decode(n, &f); err != nil { // then everything is frozen
				f = tree.Freeze{Author: "somebody", Reason: "it cannot be read"}
			}
			m.freezes[strings.TrimPrefix(n.Path, tree.Freezes)], moved = f, true
		case n.Path == tree.PinPath(c.cfg.Dataset):
			pin := new(tree.Pin)
			if err = tree.Decode(n, pin); err == nil {
				m.pin, moved = pin, true
			}
		case n.Path == tree.TrialPath(c.cfg.Dataset):
			x := new(trial.Trial)
			if err = tree.Decode(n, x); err == nil {
				m.trial, moved = x, true
			}
		case n.Path == tree.JudgementPath(c.cfg.Dataset):
			var j trial.Judgement
			if err = tree.Decode(n, &j); err == nil {
				m.judged, moved = j, true
			}
		}
		if err != nil {
			c.deps.Log.Warn("node not read", "error", err)
		}
	}
	for _, path := range b.Deletes {
		moved = true
		switch prefix {
		case tree.Hosts:
			delete(m.hosts, strings.TrimPrefix(path, tree.Hosts))
		case tree.Holds:
			delete(m.holds, strings.TrimPrefix(path, tree.Holds))
		case tree.Freezes:
			delete(m.freezes, strings.TrimPrefix(path, tree.Freezes))
		case tree.Pins:
			if path == tree.PinPath(c.cfg.Dataset) {
				m.pin = nil
			}
		case tree.Trials:
			switch path {
			case tree.TrialPath(c.cfg.Dataset):
				m.trial = nil
			case tree.JudgementPath(c.cfg.Dataset):
				m.judged = trial.Judgement{}
			}
		}
	}
	return moved
}

// maxUnread is how long it is waited for the claims of a revision to be read here. What
// says a revision may say one at which no claim came, which is never read.
const maxUnread = time.Second

// maxWait bounds one call of Wait; a client asks again.
const maxWait = time.Minute

// Kinds of revisions that Wait understands (api/control.thrift).
const (
	kindServers  = "servers"
	kindClaims   = "claims"
	kindOverride = "override"
	kindVersion  = "version"
)

// Wait implements controlapi.Control.
func (c *Control) Wait(ctx context.Context, revision int64, kind, dataset string, timeoutMs int32) (*controlapi.Arrival, error) {
	defer c.observe("wait")()
	if err := c.known(dataset); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{kindServers, kindClaims, kindOverride, kindVersion}, kind) {
		return nil, api.Refuse(api.Invalid, "", "kind is %q, expected servers, claims, override or version", clipped(kind))
	}
	began := c.deps.Now()
	ctx, cancel := context.WithTimeout(ctx, min(time.Duration(max(timeoutMs, 0))*time.Millisecond, maxWait))
	defer cancel()
	way := journey{kind: kind, revision: store.Revision(revision)}
	if revision <= 0 && kind != kindServers && kind != kindVersion {
		way.claims = max(c.read(), 1)
	}
	for {
		c.marks.mu.Lock()
		way.find(&c.marks)
		changed := c.marks.changed
		c.marks.mu.Unlock()
		waits, unread := "", time.Duration(0)
		if way.claims > 0 && way.version == 0 && kind != kindVersion {
			waits, unread = c.awaits(way.claims), maxUnread-c.deps.Now().Sub(began)
			if waits == unreadClaims && unread <= 0 {
				waits = ""
			}
		}
		c.marks.mu.Lock()
		a := way.look(&c.marks, c.cfg.Dataset, waits)
		c.marks.mu.Unlock()
		a.Milliseconds = c.deps.Now().Sub(began).Milliseconds()
		if a.Done {
			return a, nil
		}
		var again <-chan time.Time
		if waits == unreadClaims {
			again = time.After(unread)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return a, nil
		}
	}
}

// journey is one change on its way; it remembers the marks it has passed, so that
// later changes do not move its goal.
type journey struct {
	kind     string
	revision store.Revision
	claims   store.Revision // where the change is in the claims; 0 is not known yet
	version  uint64         // the version that has it; 0 is not known yet
}

// find looks where the change is in the claims.
func (j *journey) find(m *marks) {
	switch {
	case j.claims > 0:
	case j.kind == kindVersion:
		j.claims, j.version = 1, uint64(j.revision)
	case j.kind != kindServers:
		j.claims = j.revision
	case m.progress.Servers >= j.revision:
		j.claims = m.claims
	}
}

// look tells how far the change is. waits is what it waits for although a presenter has
// seen it, in words.
func (j *journey) look(m *marks, dataset, waits string) *controlapi.Arrival {
	if v := m.head.Pinned; v > 0 && (j.kind == kindServers || j.kind == kindClaims) {
		return &controlapi.Arrival{Stage: fmt.Sprintf("the dataset is pinned at the content of version %d: changes wait for `zonecast release`", v)}
	}
	if j.claims == 0 {
		return &controlapi.Arrival{Stage: "the mutator has not made claims of it yet: does `zonecast run mutator` run?"}
	}
	if j.version == 0 {
		if m.head.Claims < j.claims {
			return &controlapi.Arrival{Stage: "the presenter has not made a version of it yet: does `zonecast run presenter` run?"}
		}
		if waits != "" {
			return &controlapi.Arrival{Stage: waits}
		}
		// A heartbeat after the change is a later version with the same content.
		j.version = max(m.head.Content, 1)
	}
	a := &controlapi.Arrival{Version: int64(j.version)}
	live := 0
	for _, name := range slices.Sorted(maps.Keys(m.hosts)) {
		h := m.hosts[name]
		if !h.Carry(dataset) {
			continue
		}
		live++
		if v := m.hosts[name].Datasets[dataset].Version; v < j.version {
			a.Missing = append(a.Missing, &controlapi.MissingHost{Host: name, Version: int64(v)})
			continue
		}
		a.Hosts++
	}
	a.Done = a.Hosts > 0 && len(a.Missing) == 0
	if !a.Done {
		a.Stage = "hosts do not answer it yet"
		switch {
		case len(m.hosts) == 0:
			a.Stage = "no host is live: does `zonecast run agent` run?"
		case live == 0:
			a.Stage = fmt.Sprintf("no live host carries %s: see `zonecast groups`", dataset)
		}
	}
	return a
}

func (c *Control) known(dataset string) error {
	if dataset != "" && dataset != c.cfg.Dataset {
		return api.Refuse(api.NotFound, "`zonecast status` shows those that are", "dataset %q is not served here, expected %q", clipped(dataset), c.cfg.Dataset)
	}
	return nil
}
