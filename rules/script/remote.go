package script

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing/fstest"
	"time"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/sandbox"
	"github.com/zonecast/zonecast/record"
)

// SandboxName is the name under which a program has SandboxHandler in sandbox.Main.
const SandboxName = "rules"

// Bounds of the child that evaluates rules.
const (
	childMemory = 512 << 20
	childTime   = 30 * time.Second
	childAnswer = 256 << 20
	maxFilesSum = 16 << 20 // octets of all files
	// ahead is how many servers are evaluated in one call.
	ahead = 1000
	// A rule that ends the child so often within strikeTime is not run until then.
	strikes    = 3
	strikeTime = time.Minute
	// A call that ended the child alone is not made again within deadlyTime; maxDeadly are
	// kept.
	deadlyTime = 10 * time.Minute
	maxDeadly  = 1000
)

// child is what a child process keeps: the rules that it was given, by the number of what
// they came with.
type child struct {
	programs map[uint64]map[record.Source]*Program
}

// SandboxHandler evaluates rules in a child.
func SandboxHandler() (sandbox.Handler, error) {
	// What is collected is short-lived, and near the bound of memory the collector runs
	// more often anyway.
	debug.SetGCPercent(400)
	c := &child{programs: map[uint64]map[record.Source]*Program{}}
	return func(b []byte, _ func([]byte)) []byte {
		out, err := c.answer(b)
		if err != nil {
			return appendText(nil, err.Error())
		}
		return out
	}, nil
}

// answer answers a request as wire.go draws it.
func (c *child) answer(b []byte) ([]byte, error) {
	r := wireReader{b: b}
	switch kind := r.byte(); kind {
	case wireLoad:
		set := r.uvarint()
		files := fstest.MapFS{}
		for range r.count(2) {
			name := r.text()
			files[name] = &fstest.MapFile{Data: r.octets(), Mode: 0o444}
		}
		if err := r.end(); err != nil {
			return nil, err
		}
		return c.load(set, files)
	case wireEvaluate:
		p := c.programs[r.uvarint()][record.Source(r.text())]
		calls := make([][]byte, 0, r.count(1))
		for range cap(calls) {
			calls = append(calls, r.octets())
		}
		if err := r.end(); err != nil {
			return nil, err
		}
		if p == nil {
			return nil, errors.New("there is no such rule")
		}
		return p.answers(calls), nil
	default:
		return nil, fmt.Errorf("request of kind 0x%02x", kind)
	}
}

func (c *child) load(set uint64, files fs.FS) ([]byte, error) {
	all, err := Load(files)
	if err != nil {
		return nil, err
	}
	programs := map[record.Source]*Program{}
	c.programs[set] = programs
	out := appendText(nil, "")
	out = binary.AppendUvarint(out, uint64(len(all)))
	for _, l := range all {
		digest, text := "", ""
		if l.Err != nil {
			text = l.Err.Error()
		} else {
			digest = l.Rule.Digest()
			programs[l.Source] = l.Rule.(*Program)
		}
		for _, s := range []string{string(l.Source), l.File, digest, text} {
			out = appendText(out, s)
		}
	}
	return out, nil
}

// portion is how many calls are worth a goroutine of their own: some hundred microseconds.
const portion = 16

// answers evaluates calls, on all processors.
func (p *Program) answers(calls [][]byte) []byte {
	parts := make([][]byte, max(1, min(runtime.GOMAXPROCS(0), len(calls)/portion)))
	var wg sync.WaitGroup
	for i := range parts {
		some := calls[i*len(calls)/len(parts) : (i+1)*len(calls)/len(parts)]
		wg.Go(func() {
			t, r := &thread{}, wireReader{texts: map[string]string{}}
			var one []byte
			out := make([]byte, 0, 128*len(some))
			for _, c := range some {
				r.b, r.err = c, nil
				one = p.result(one[:0], t, &r)
				out = appendText(out, one)
			}
			parts[i] = out
		})
	}
	wg.Wait()
	out := appendText(nil, "")
	out = binary.AppendUvarint(out, uint64(len(calls)))
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

// result appends the result of a call.
func (p *Program) result(b []byte, t *thread, r *wireReader) []byte {
	kind := r.byte()
	if kind == wireClaims {
		shard := r.text()
		members := make([]fleet.Server, 0, r.count(minServer))
		for range cap(members) {
			members = append(members, r.server())
		}
		if err := r.end(); err != nil {
			return appendFound(b, nil, err)
		}
		all, err := p.evaluate(t, shard, members)
		return appendFound(b, all, err)
	}
	s := newServerValue(r.server())
	var shards []string
	err := r.end()
	if err == nil {
		shards, err = p.shards(t, s)
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	b = appendText(b, text)
	b = binary.AppendUvarint(b, uint64(len(shards)))
	for _, s := range shards {
		b = appendText(b, s)
	}
	if kind != wireBoth {
		return b
	}
	if p.server == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	all, err := p.make(t, kindServer+"."+s.id, p.server, s, 1)
	return appendFound(b, all, err)
}

func appendFound(b []byte, all []made, err error) []byte {
	text := ""
	if err != nil {
		text, all = err.Error(), nil
	}
	return appendMade(appendText(b, text), all)
}

// Host evaluates rules in a child process, so that one that eats memory or never ends
// costs an error and not the process. It is safe for concurrent use.
type Host struct {
	mu      sync.Mutex // guards below
	child   *sandbox.Child
	given   map[uint64]bool // sets that the child has
	last    uint64          // set that was read last
	sets    map[uint64]map[string][]byte
	good    map[record.Source]uint64 // the set in which a rule was good last
	strikes map[record.Source][]time.Time
	deadly  map[[32]byte]death // calls that ended the child alone, by their SHA-256
	closed  bool
}

type death struct {
	at  time.Time
	err error
}

// ErrLater is wrapped by errors that may be gone when the same is asked again.
var ErrLater = errors.New("it is tried again later")

// NewHost starts nothing yet.
func NewHost() *Host {
	return &Host{
		sets: map[uint64]map[string][]byte{}, good: map[record.Source]uint64{},
		strikes: map[record.Source][]time.Time{}, deadly: map[[32]byte]death{},
	}
}

// Close ends the child.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return h.end()
}

func (h *Host) end() error {
	if h.child == nil {
		return nil
	}
	c := h.child
	h.child, h.given = nil, nil
	return c.Close()
}

// Load is Load in the child. Rules that an earlier Load gave can be evaluated for as long as
// there is no better of their source; after an error that is all of them.
func (h *Host) Load(files fs.FS) ([]Loaded, error) {
	all, err := readAll(files)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.end(); err != nil {
		return nil, err
	}
	clear(h.strikes)
	clear(h.deadly)
	h.last++
	h.sets[h.last] = all
	out, err := h.loadSet()
	if err != nil {
		delete(h.sets, h.last)
		return nil, errors.Join(err, h.end())
	}
	good := map[record.Source]uint64{}
	for _, l := range out {
		if l.Rule != nil {
			good[l.Source] = h.last
		} else if set, was := h.good[l.Source]; was {
			good[l.Source] = set
		}
	}
	h.good = good
	needed := map[uint64]bool{h.last: true}
	for _, set := range good {
		needed[set] = true
	}
	maps.DeleteFunc(h.sets, func(set uint64, _ map[string][]byte) bool { return !needed[set] })
	return out, nil
}

// loadSet loads the last set. The caller holds h.mu.
func (h *Host) loadSet() ([]Loaded, error) {
	r, err := h.give(h.last)
	if err != nil {
		return nil, err
	}
	out := make([]Loaded, 0, r.count(4))
	for range cap(out) {
		one := Loaded{Source: record.Source(r.text()), File: r.text()}
		if digest, text := r.text(), r.text(); text != "" {
			one.Err = errors.New(text)
		} else {
			one.Rule = &remote{host: h, set: h.last, source: one.Source, digest: digest, cache: map[record.Name]cached{}, shards: map[string]cachedClaims{}}
		}
		if s, is := SourceOf(one.File); r.err == nil && (!is || s != one.Source) {
			r.err = fmt.Errorf("%.80q is the source of %.80q", string(one.Source), one.File)
		}
		out = append(out, one)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("rules: the sandbox answers otherwise than expected: %w", err)
	}
	return out, nil
}

// readAll reads what rules are made of.
func readAll(files fs.FS) (map[string][]byte, error) {
	all, sum := map[string][]byte{}, 0
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || path.Ext(name) != ".star" && name != ParamsFile {
			return err
		}
		if len(all) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() || st.Size() > maxFile {
			return fmt.Errorf("%s: expected a file of at most %d octets", name, maxFile)
		}
		text, err := fs.ReadFile(files, name)
		if sum += len(text); err == nil && sum > maxFilesSum {
			err = fmt.Errorf("more than %d octets", maxFilesSum)
		}
		all[name] = text
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return all, nil
}

// give has a child, a new one if there is none, that has a set, and gives what it answered
// behind its error. The caller holds h.mu.
func (h *Host) give(set uint64) (r wireReader, err error) {
	if h.closed {
		return r, errors.New("rules: the host is closed")
	}
	if h.child == nil {
		if h.child, err = sandbox.Start(SandboxName, sandbox.Limits{Memory: childMemory, Time: childTime, Answer: childAnswer}); err != nil {
			return r, err
		}
		h.given = map[uint64]bool{}
	}
	files, there := h.sets[set]
	if !there {
		return r, errors.New("rules: this one is gone, there are newer ones")
	}
	q := binary.AppendUvarint([]byte{wireLoad}, set)
	q = binary.AppendUvarint(q, uint64(len(files)))
	for name, text := range files {
		q = appendText(appendText(q, name), text)
	}
	if r, err = h.exchange(q); err == nil {
		h.given[set] = true
	}
	return r, err
}

// exchange asks the child once. After an error that is not the child's answer it is dead.
func (h *Host) exchange(q []byte) (r wireReader, err error) {
	out, err := h.child.Call(context.Background(), q, nil)
	if err != nil {
		return r, errors.Join(err, h.end())
	}
	r = wireReader{b: out}
	if text := r.text(); text != "" {
		return r, errors.New(text)
	}
	return r, r.err
}

// ask evaluates calls of one rule, and gives their results.
func (h *Host) ask(set uint64, source record.Source, calls ...[]byte) (results [][]byte, err error) {
	q := binary.AppendUvarint([]byte{wireEvaluate}, set)
	q = appendText(q, source)
	q = binary.AppendUvarint(q, uint64(len(calls)))
	for _, c := range calls {
		q = appendText(q, c)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if len(calls) == 1 && len(h.deadly) > 0 {
		sum := sha256.Sum256(q)
		if d, is := h.deadly[sum]; is && now.Sub(d.at) < deadlyTime {
			return nil, d.err
		}
		delete(h.deadly, sum)
	}
	h.strikes[source] = slices.DeleteFunc(h.strikes[source], func(t time.Time) bool { return now.Sub(t) > strikeTime })
	if n := len(h.strikes[source]); n >= strikes {
		return nil, fmt.Errorf("%s: ended its process %d times within %v and is not run for a while: %w", source, n, strikeTime, ErrLater)
	}
	if h.child == nil || !h.given[set] {
		if _, err := h.give(set); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", source, err, ErrLater)
		}
	}
	r, err := h.exchange(q)
	if err == nil {
		results = make([][]byte, 0, r.count(1))
		for range cap(results) {
			results = append(results, r.octets())
		}
		if err = r.end(); err == nil && len(results) != len(calls) {
			err = fmt.Errorf("the sandbox gave %d results of %d", len(results), len(calls))
		}
	}
	if err == nil {
		return results, nil
	}
	err = fmt.Errorf("%s: %w: %w", source, errors.Join(err, h.end()), ErrLater)
	h.strikes[source] = append(h.strikes[source], now)
	if len(calls) == 1 {
		if len(h.deadly) >= maxDeadly {
			clear(h.deadly)
		}
		h.deadly[sha256.Sum256(q)] = death{now, err}
	}
	return nil, err
}

// remote is a rule in the child.
type remote struct {
	host   *Host
	set    uint64
	source record.Source
	digest string
	mu     sync.Mutex              // guards below
	cache  map[record.Name]cached  // what was evaluated ahead
	shards map[string]cachedClaims // the same, of shards of several
}

// cachedClaims is the result of wireClaims for members as they were.
type cachedClaims struct {
	members []fleet.Server
	result  []byte
}

// cached is the result of wireBoth for a server as it was.
type cached struct {
	server *fleet.Server
	result []byte
}

// Source implements rules.Rule.
func (r *remote) Source() record.Source { return r.source }

// Digest is Program.Digest.
func (r *remote) Digest() string { return r.digest }

// Uncertain is Program.Uncertain.
func (r *remote) Uncertain(shard string) bool { return strings.HasPrefix(shard, kindGroup+".") }

// Ahead evaluates many servers at once, because they will be asked for one by one. They must
// not be changed afterwards. While the child evaluates some of them, others are encoded.
func (r *remote) Ahead(servers []fleet.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.cache)
	var (
		encoded = make(chan [][]byte, 1)
		stop    = make(chan struct{})
		misses  int
	)
	go func() {
		defer close(encoded)
		for some := range slices.Chunk(servers, ahead) {
			calls := make([][]byte, len(some))
			for i := range some {
				calls[i] = callOf(wireBoth, "", some[i])
			}
			select {
			case encoded <- calls:
			case <-stop:
				return
			}
		}
	}()
	defer close(stop)
	for calls := range encoded {
		results, err := r.host.ask(r.set, r.source, calls...)
		for i := range results {
			r.cache[servers[i].Name] = cached{&servers[i], results[i]}
		}
		if servers = servers[len(calls):]; err != nil {
			misses++ // it is met again when they are asked for, one by one
		}
		if misses >= strikes {
			return
		}
	}
}

// AheadOf makes the claims of many shards at once, because they will be asked for one by one.
// What Ahead knows already is not made again.
func (r *remote) AheadOf(shards []string, members func(shard string) []fleet.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.shards)
	var (
		names  []string
		some   []cachedClaims
		calls  [][]byte
		size   int
		misses int
	)
	ask := func() {
		results, err := r.host.ask(r.set, r.source, calls...)
		if err != nil {
			misses++
		}
		for i := range results {
			some[i].result = results[i]
			r.shards[names[i]] = some[i]
		}
		names, some, calls, size = names[:0], some[:0], calls[:0], 0
	}
	for _, shard := range shards {
		all := members(shard)
		if _, known := r.cache[nameOf(all)]; known && strings.HasPrefix(shard, kindServer+".") {
			continue
		}
		names, some = append(names, shard), append(some, cachedClaims{members: all})
		calls = append(calls, callOf(wireClaims, shard, all...))
		if size += len(all); size >= ahead || len(calls) == ahead {
			if ask(); misses >= strikes {
				return
			}
		}
	}
	if len(calls) > 0 {
		ask()
	}
}

// nameOf is the name of an only server.
func nameOf(all []fleet.Server) record.Name {
	if len(all) != 1 {
		return ""
	}
	return all[0].Name
}

// take gives what AheadOf made of a shard with these members, once.
func (r *remote) take(shard string, all []fleet.Server) (result []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.shards[shard]
	delete(r.shards, shard)
	return c.result, ok && slices.EqualFunc(c.members, all, func(a, b fleet.Server) bool { return sameServer(&a, &b) })
}

// sameServer tells whether rules make the same of both.
func sameServer(a, b *fleet.Server) bool {
	return a.Same(*b) && a.Author == b.Author && a.Reason == b.Reason && a.Time == b.Time
}

// known gives what was evaluated ahead of a server as it is.
func (r *remote) known(s *fleet.Server) (result []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.cache[s.Name]
	if !ok || !sameServer(c.server, s) {
		return nil, false
	}
	return c.result, true
}

func (r *remote) forget(s *fleet.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.cache, s.Name)
}

// bad says that the child's answer is no answer.
func (r *remote) bad(err error) error {
	return fmt.Errorf("%s: the sandbox answers otherwise than expected: %w", r.source, err)
}

// Shards implements rules.Rule.
func (r *remote) Shards(s fleet.Server) ([]string, error) {
	result, ahead := r.known(&s)
	if !ahead {
		all, err := r.host.ask(r.set, r.source, callOf(wireShards, "", s))
		if err != nil {
			return nil, err
		}
		result = all[0]
	}
	w := wireReader{b: result}
	text := w.text()
	shards := w.shards()
	if ahead {
		if own := w.byte(); own == 0 {
			r.forget(&s) // nobody will ask for its claims
		}
	}
	if w.err != nil {
		return nil, r.bad(w.err)
	}
	if text != "" {
		return shards, errors.New(text)
	}
	return shards, nil
}

// Claims implements rules.Rule.
func (r *remote) Claims(shard string, members func() []fleet.Server) ([]record.Claim, error) {
	all := members()
	w, ok := wireReader{}, false
	if id, own := strings.CutPrefix(shard, kindServer+"."); own && len(all) == 1 && all[0].ID() == id {
		var result []byte
		if result, ok = r.known(&all[0]); ok {
			r.forget(&all[0])
			w.b = result
			w.octets() // the error of the shards
			for range w.count(1) {
				w.octets()
			}
			ok = w.byte() == 1 && w.err == nil
		}
	}
	if !ok {
		w.b, ok = r.take(shard, all)
		w.err = nil
	}
	if !ok {
		results, err := r.host.ask(r.set, r.source, callOf(wireClaims, shard, all...))
		if err != nil {
			return nil, err
		}
		w = wireReader{b: results[0]}
	}
	text := w.text()
	found := w.made()
	if err := w.end(); err != nil {
		return nil, r.bad(err)
	}
	if text != "" {
		return nil, errors.New(text)
	}
	return claimsOf(r.source, shard, all, found), nil
}
