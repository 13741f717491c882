package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Break glass: when there is no store, operators hand overrides to hosts directly. Each is
// signed, kept in a file beside the journal before it is answered for, and put on top by the
// authority. When the store is back it is handed in there; what becomes of it is control's to
// say, and it goes from here when the host answers what came of it: nothing is forgotten,
// and there is no gap.

const (
	// directCalls bounds the calls that are under way, directTime how long one takes.
	directCalls = 16
	directTime  = 10 * time.Second
	// refusalsAtOnce refused calls are logged one by one, then one a second.
	refusalsAtOnce = 20
	// answeredWithin is how long a call waits until the authority answers what it set.
	answeredWithin = 3 * time.Second
	// handInEvery is how often the store is tried while something is to be handed in.
	handInEvery = time.Second
	// memory is how long the id of a statement is remembered after it could be taken.
	memory = 2 * operator.Skew
)

// glass takes overrides from operators, of one dataset. That of the host's first one listens for
// all.
type glass struct {
	*Agent
	path string
	ln   net.Listener // nil: another one listens

	operators operator.File
	aside     string    // what became of a damaged file at the start; "": there was none
	began     time.Time // of this life

	refusals *rate.Limiter // of log lines
	unsaid   atomic.Int64  // refusals without one since the last line

	mu   sync.Mutex // guards below
	kept direct.Kept
}

func newGlass(a *Agent) (*glass, error) {
	g, err := openGlass(a)
	if err != nil {
		return nil, err
	}
	network, address := "tcp", a.cfg.Direct
	if path, unix := strings.CutPrefix(a.cfg.Direct, "unix:"); unix {
		network, address = "unix", path
		if err := removeSocket(path); err != nil {
			return nil, err
		}
	}
	if g.ln, err = net.Listen(network, address); err != nil {
		return nil, fmt.Errorf("direct: %w", err)
	}
	return g, nil
}

// openGlass reads what was kept; it does not listen.
func openGlass(a *Agent) (*glass, error) {
	g := &glass{Agent: a, path: direct.Path(a.cfg.Journal), began: time.Now(), refusals: rate.NewLimiter(1, refusalsAtOnce)}
	if _, _, err := g.operators.Now(a.cfg.Operators); err != nil {
		return nil, err
	}
	var err error
	if g.kept, err = direct.Read(g.path); errors.Is(err, direct.ErrDamaged) {
		err = g.putAside(err)
	}
	return g, err
}

// of takes overrides for a dataset that the host carries; nil: it carries others.
func (g *glass) of(dataset string) *glass {
	for _, a := range g.carries() {
		if a.cfg.Dataset == dataset {
			return a.direct
		}
	}
	return nil
}

// asideKept is how many damaged files are kept.
const asideKept = 3

// putAside moves a damaged file out of the way. What was in it is answered no longer: it is
// not known.
func (g *glass) putAside(damage error) error {
	to := fmt.Sprintf("%s.damaged-%020d", g.path, time.Now().UnixNano())
	if err := os.Rename(g.path, to); err != nil {
		return errors.Join(damage, err)
	}
	g.aside = fmt.Sprintf("%v: moved to %s, what was in it is answered no longer", damage, to)
	g.deps.Log.Error("direct overrides are damaged; the file is moved aside, and what was in it is answered no longer", "file", to, "error", damage)
	old, err := filepath.Glob(g.path + ".damaged-*") // in order
	for len(old) > asideKept && err == nil {
		err = os.Remove(old[0])
		old = old[1:]
	}
	if err != nil {
		g.deps.Log.Warn("old damaged files not removed", "error", err)
	}
	return nil
}

// who gives the operators, as the file has them now; when that cannot be read, those that
// were read last, and why.
func (g *glass) who() (*operator.Operators, error) {
	all, news, err := g.operators.Now(g.cfg.Operators)
	switch {
	case news && err != nil:
		g.deps.Log.Error("operators cannot be read; those that were read last stay", "error", err)
	case news:
		g.deps.Log.Info("operators are read again", "file", g.cfg.Operators)
	}
	return all, err
}

// DirectTroubles tells what a person should mend of what operators hand to the host
// directly.
func (a *Agent) DirectTroubles() (all []string) {
	if a.direct == nil {
		return nil
	}
	if a.direct.aside != "" && time.Since(a.direct.began) < direct.MaxLength { // all of it would be over by then
		all = append(all, a.direct.aside)
	}
	if _, err := a.direct.who(); err != nil {
		all = append(all, err.Error()+"; those that were read last stay")
	}
	return all
}

// removeSocket takes the socket of an earlier life away, and nothing else.
func removeSocket(path string) error {
	st, err := os.Lstat(path)
	if err != nil || st.Mode()&os.ModeSocket == 0 {
		return nil // there is none, or listening says what is in the way
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return fmt.Errorf("direct: %s: another process listens there", path)
	}
	return os.Remove(path)
}

func (g *glass) run(ctx context.Context) {
	mux := http.NewServeMux()
	calls := make(chan struct{}, directCalls)
	mux.HandleFunc("POST /direct", func(w http.ResponseWriter, r *http.Request) {
		select {
		case calls <- struct{}{}:
			defer func() { <-calls }()
		default:
			http.Error(w, "too many calls at once", http.StatusTooManyRequests)
			return
		}
		g.call(w, r)
	})
	mux.HandleFunc("GET /direct", func(w http.ResponseWriter, r *http.Request) {
		var all []tree.DirectState
		for _, a := range g.carries() {
			if a.direct != nil {
				all = append(all, a.direct.states()...)
			}
		}
		reply(w, http.StatusOK, tree.DirectReply{Host: g.cfg.Host, Overrides: all})
	})
	s := &http.Server{Handler: mux, ReadTimeout: directTime, WriteTimeout: directTime, MaxHeaderBytes: 8 << 10}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(g.ln); !errors.Is(err, http.ErrServerClosed) {
			g.deps.Log.Error("direct overrides are no longer taken", "error", err)
		}
	})
	wg.Go(func() { g.handIn(ctx) })
	<-ctx.Done()
	_ = s.Close() // what is under way is durable, or was not answered
	wg.Wait()
}

func reply(w http.ResponseWriter, status int, v tree.DirectReply) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller went
}

// call does what an operator signed.
func (g *glass) call(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if g.refusals.Allow() {
			g.deps.Log.Warn("direct override refused", "caller", r.RemoteAddr, "error", text, "unsaid", g.unsaid.Swap(0))
		} else {
			g.unsaid.Add(1) // whoever reaches this port may call
		}
		reply(w, status, tree.DirectReply{Host: g.cfg.Host, Error: text})
	}
	signed, err := io.ReadAll(http.MaxBytesReader(w, r.Body, operator.MaxSigned))
	if err != nil {
		refuse(http.StatusBadRequest, "statement: %v", err)
		return
	}
	operators, _ := g.who() // whose error is said
	now := time.Now()
	s, id, err := operators.Verify(signed, now)
	if err != nil {
		refuse(http.StatusForbidden, "%v", err)
		return
	}
	takes := g.of(s.Dataset) // once: the host may drop the dataset at any time
	switch {
	case takes == nil:
		var carries []string
		for _, a := range g.carries() {
			carries = append(carries, a.cfg.Dataset)
		}
		refuse(http.StatusBadRequest, "%s signed for dataset %q, this host has %q", s.Operator, s.Dataset, carries)
		return
	case !operators.May(s.Operator, "override"):
		refuse(http.StatusForbidden, "%s may not override", s.Operator)
		return
	}
	g = takes
	var status int
	switch s.Action {
	case direct.ActionSet:
		var d tree.Direct
		if d, err = direct.Of(s, id, signed); err == nil {
			status, err = g.set(d, now)
		} else {
			status = http.StatusBadRequest
		}
	case direct.ActionClear:
		var of, reason string
		if of, reason, err = direct.ClearedID(s); err == nil {
			status, err = g.clear(of, id, fmt.Sprintf("by %s (%s)", s.Operator, reason), now)
			id = of
		} else {
			status = http.StatusBadRequest
		}
	default:
		status, err = http.StatusBadRequest, fmt.Errorf("%s signed %q, expected %q or %q", s.Operator, s.Action, direct.ActionSet, direct.ActionClear)
	}
	if err != nil {
		refuse(status, "%v", err)
		return
	}
	g.deps.Log.Warn("direct override", "action", s.Action, "id", id, "author", s.Operator, "caller", r.RemoteAddr)
	text, answered := g.await(r.Context(), id, s.Action == direct.ActionSet)
	reply(w, http.StatusOK, tree.DirectReply{Host: g.cfg.Host, ID: id, Answered: answered, Text: text, Overrides: g.states()})
}

// next gives what is kept, to be changed by a statement, which is remembered; ok is false
// when it was taken before. The caller holds g.mu.
func (g *glass) next(id string, now time.Time) (k direct.Kept, ok bool) {
	if _, again := g.kept.Seen[id]; again {
		return k, false
	}
	k = direct.Kept{Overrides: slices.Clone(g.kept.Overrides), Seen: map[string]int64{id: now.UnixMilli()}}
	for old, at := range g.kept.Seen {
		if now.Sub(time.UnixMilli(at)) <= memory {
			k.Seen[old] = at
		}
	}
	return k, true
}

func (g *glass) set(d tree.Direct, now time.Time) (status int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next, ok := g.next(d.ID, now)
	if !ok || slices.ContainsFunc(next.Overrides, func(o tree.Direct) bool { return o.ID == d.ID }) {
		return http.StatusConflict, fmt.Errorf("what %s signed was taken already", d.Operator)
	}
	for i := range next.Overrides { // the newer takes the place of an older one
		if o := &next.Overrides[i]; o.Owner == d.Owner && o.Type == d.Type && o.Cleared == "" && now.UnixMilli() < o.Until {
			o.Cleared = "replaced by " + d.ID
		}
	}
	g.makeRoom(&next, now)
	if n := len(next.Overrides); n >= direct.Max {
		return http.StatusTooManyRequests, fmt.Errorf("there are %d direct overrides, at most %d", n, direct.Max)
	}
	next.Overrides = append(next.Overrides, d)
	return g.hold(next)
}

// makeRoom forgets the oldest overrides that are over, when there is no room for another: what
// an operator needs now counts for more than that the store hears of each when it is back.
func (g *glass) makeRoom(k *direct.Kept, now time.Time) {
	for len(k.Overrides) >= direct.Max {
		oldest := -1
		for i, o := range k.Overrides {
			if (o.Cleared != "" || now.UnixMilli() >= o.Until) && (oldest < 0 || o.Set < k.Overrides[oldest].Set) {
				oldest = i
			}
		}
		if oldest < 0 {
			return
		}
		o := k.Overrides[oldest]
		g.deps.Log.Warn("direct override that is over is forgotten: there is no room, and the store has not heard of it", "id", o.ID, "author", o.Operator)
		k.Overrides = slices.Delete(k.Overrides, oldest, oldest+1)
	}
}

func (g *glass) clear(id, statement, by string, now time.Time) (status int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.kept.Overrides, func(o tree.Direct) bool { return o.ID == id && o.Cleared == "" && now.UnixMilli() < o.Until })
	if i < 0 {
		return http.StatusNotFound, fmt.Errorf("there is no direct override %.40q here; it may have ended", id)
	}
	next, ok := g.next(statement, now)
	if !ok {
		return http.StatusConflict, errors.New("that was done already")
	}
	next.Overrides[i].Cleared = by
	return g.hold(next)
}

// hold writes what there is. The caller holds g.mu.
func (g *glass) hold(next direct.Kept) (status int, err error) {
	if n := len(next.Seen); n > direct.MaxSeen {
		return http.StatusTooManyRequests, fmt.Errorf("%d statements within %v, at most %d", n, memory, direct.MaxSeen)
	}
	if err := direct.Write(g.path, next); err != nil {
		return http.StatusInsufficientStorage, err
	}
	g.kept = next
	return http.StatusOK, nil
}

// await waits until the authority says what it does with an override, or that it has none.
func (g *glass) await(ctx context.Context, id string, on bool) (text string, answered bool) {
	for end := time.Now().Add(answeredWithin); time.Now().Before(end); {
		serving, err := g.readServing()
		if err == nil {
			i := slices.IndexFunc(serving.Direct, func(s tree.DirectState) bool { return s.ID == id })
			switch {
			case on && i >= 0 && serving.Direct[i].Refused != "":
				return "kept, but not answered: " + serving.Direct[i].Refused, false
			case on && i >= 0:
				return "answered", true
			case !on && i < 0:
				return "no longer answered", true
			}
		}
		select {
		case <-ctx.Done():
			return "kept; the caller went", false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Sprintf("kept, but the authority has not said within %v that it knows: does it run?", answeredWithin), false
}

// states are the overrides that are in force, as the authority says.
func (g *glass) states() []tree.DirectState {
	serving, err := g.readServing()
	if err != nil {
		return nil
	}
	return serving.Direct
}

// handIn gives what was taken to the store when it is there, and takes away what the host
// needs no more.
func (g *glass) handIn(ctx context.Context) {
	t := time.NewTicker(handInEvery)
	defer t.Stop()
	said := map[string]bool{} // that are in the store, in this life
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		g.mu.Lock()
		all := slices.Clone(g.kept.Overrides)
		g.mu.Unlock()
		for _, d := range all {
			over, err := g.handInOne(ctx, d, said)
			if err != nil {
				break // the store is away
			}
			if over {
				g.drop(d.ID)
			}
		}
	}
}

// handInOne tells whether an override is not needed here any more.
func (g *glass) handInOne(ctx context.Context, d tree.Direct, said map[string]bool) (over bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, handInEvery*5)
	defer cancel()
	path := tree.DirectPath(d.ID)
	n, err := g.deps.Store.Get(ctx, path)
	// What the store was told it has for so long; else it was put back to an older copy.
	kept := time.UnixMilli(d.Until).Add(direct.Memory)
	if errors.Is(err, store.ErrNotFound) && (!said[d.ID] || time.Now().Before(kept)) {
		_, err = g.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{{Path: path}}, Do: []store.Op{{Path: path, Value: tree.Encode(d)}}})
		if err == nil || errors.Is(err, store.ErrConflict) { // another host was faster
			said[d.ID] = true
			return false, nil
		}
		return false, err
	}
	if errors.Is(err, store.ErrNotFound) {
		return true, nil // it was there, and is forgotten there by now
	}
	if err != nil {
		return false, err
	}
	said[d.ID] = true
	var there tree.Direct
	if err := tree.Decode(n, &there); err != nil {
		g.deps.Log.Error("direct override in the store cannot be read", "error", err)
		return false, nil
	}
	switch {
	case there.Outcome == "":
		if d.Cleared != "" && there.Cleared == "" { // it was cleared here after it was handed in
			there.Cleared = d.Cleared
			_, err = g.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: n.Modified}}, Do: []store.Op{{Path: path, Value: tree.Encode(there)}}})
			if errors.Is(err, store.ErrConflict) {
				err = nil
			}
		}
		return false, err
	case there.Outcome != tree.DirectTaken:
		g.deps.Log.Warn("direct override ended", "id", d.ID, "outcome", there.Outcome, "why", there.Why)
		return true, nil
	}
	// It is an override in the store, made in the node's revision: it may go from here when
	// the host answers a version that has it.
	h, err := g.deps.Store.Get(ctx, tree.HeadPath(g.cfg.Dataset))
	if err != nil {
		return false, err
	}
	var head tree.Head
	if err := tree.Decode(h, &head); err != nil || head.Claims < n.Modified {
		return false, nil
	}
	serving, err := g.readServing()
	if err != nil || serving.Version < head.Content {
		return false, nil
	}
	g.deps.Log.Info("direct override is taken over from the store", "id", d.ID, "version", serving.Version)
	return true, nil
}

// drop takes an override away here.
func (g *glass) drop(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := direct.Kept{Seen: g.kept.Seen}
	next.Overrides = slices.DeleteFunc(slices.Clone(g.kept.Overrides), func(d tree.Direct) bool { return d.ID == id })
	if _, err := g.hold(next); err != nil {
		g.deps.Log.Error("direct override not taken away, trying again", "id", id, "error", err)
	}
}
