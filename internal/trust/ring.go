package trust

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// Config is where the keys are.
type Config struct {
	// Keys are files of public keys (PEM).
	Keys []string
	// Revoked is a file in which the administrator of this machine revokes keys, see
	// parseRevoked. Empty: none. A file that is not there revokes nothing.
	Revoked string
	// Memory is the file of statements that were seen, MemoryFile of a journal. Empty:
	// nothing is remembered.
	Memory string
	// Reader leaves the memory as it is: another process writes it.
	Reader bool
	// Poll is how often files are looked at. Zero means a second. A memory that could not be
	// written is tried again within a second.
	Poll time.Duration
	// FS is where Memory is. Nil means the operating system's.
	FS  journal.FS
	Log *slog.Logger // nil discards
}

// MemoryFile is where a host remembers revocations: beside the journal, which is moved
// aside when it is damaged.
func MemoryFile(journal string) string { return path.Clean(journal) + ".revoked" }

const (
	defaultPoll = time.Second
	// maxFile bounds a file of revocations, in octets.
	maxFile = 256 << 10
	// maxProblem bounds what is said of one file, in octets: it goes into the host's node in the
	// store, which must not grow with the damage.
	maxProblem = 512
)

// Ring is the set of keys. Its methods may be called by any goroutine.
type Ring struct {
	cfg Config

	set atomic.Pointer[journal.KeySet] // changed with mu held; reading it waits for no disk

	mu       sync.Mutex // guards below
	keys     []ed25519.PublicKey
	local    map[string]revoked   // of Config.Revoked, by key id
	seen     map[string]Statement // in the memory, or to be
	unsaved  bool
	problems map[string]string // by what is at fault
	told     map[chan struct{}]bool
}

// revoked is a key that the administrator named.
type revoked struct {
	void bool
	why  string
}

// Open reads the files. Keys that cannot be read are an error; revocations that cannot are
// a problem that is said.
func Open(cfg Config) (*Ring, error) {
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.FS == nil {
		cfg.FS = journal.System()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Ring{cfg: cfg, seen: map[string]Statement{}, problems: map[string]string{}, told: map[chan struct{}]bool{}}
	var err error
	if r.keys, err = loadKeys(cfg.Keys); err != nil {
		return nil, err
	}
	r.look()
	return r, nil
}

func loadKeys(files []string) (all []ed25519.PublicKey, err error) {
	for _, file := range files {
		keys, err := snapshot.LoadPublicKeys(file)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if !has(all, k) {
				all = append(all, k)
			}
		}
	}
	return all, nil
}

func has(keys []ed25519.PublicKey, k ed25519.PublicKey) bool {
	return slices.ContainsFunc(keys, func(other ed25519.PublicKey) bool { return other.Equal(k) })
}

// Keys is journal.Keys.
func (r *Ring) Keys() *journal.KeySet { return r.set.Load() }

// Problems is what is wrong with the files, in order; none when all is well.
func (r *Ring) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(r.problems)) {
		all = append(all, r.problems[what])
	}
	return all
}

// Subscribe gives a channel that tells when Keys gives another set, and what ends that.
func (r *Ring) Subscribe() (changed <-chan struct{}, end func()) {
	ch := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told[ch] = true
	return ch, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.told, ch)
	}
}

// Run looks at the files, and at the store's revocations unless st is nil, until ctx ends.
// Refused is told of what in the store is no revocation, of few when there are many. All of
// them are read again when another key is in the files: what revokes it may have been passed
// over.
func (r *Ring) Run(ctx context.Context, st store.Store, refused func(err error, evidence []byte)) {
	var watch <-chan store.Batch
	end := func() {}
	defer func() { end() }()
	read := func() {
		end()
		var of context.Context
		of, end = context.WithCancel(ctx)
		watch = st.Watch(of, tree.Revocations, 0)
	}
	if st != nil {
		read()
	}
	var told tells
	tick := time.NewTicker(r.cfg.Poll)
	defer tick.Stop()
	look := func() {
		if r.look() && st != nil {
			read()
		}
	}
	var again <-chan time.Time
	for {
		if again == nil && r.isUnsaved() {
			again = time.After(min(r.cfg.Poll, defaultPoll))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			look()
		case <-again:
			again = nil
			look()
		case b, open := <-watch:
			if !open {
				watch = nil // the store is closed; the files go on
				continue
			}
			for _, n := range b.Puts {
				if err := r.Take(string(n.Value)); err != nil && told.may(time.Now()) {
					refused(fmt.Errorf("node %s: %w", n.Path, err), n.Value)
				}
			}
		}
	}
}

// isUnsaved tells whether the memory could not be written.
func (r *Ring) isUnsaved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unsaved
}

// Read takes the store's revocations as they are now. What is none of them is left to Run to
// tell of.
func (r *Ring) Read(ctx context.Context, st store.Store) error {
	nodes, _, err := st.List(ctx, tree.Revocations)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		_ = r.Take(string(n.Value))
	}
	return nil
}

// tells lets few of many be told: maxTells in tellsIn.
type tells struct {
	since time.Time
	n     int
}

const (
	maxTells = 8
	tellsIn  = time.Minute
)

func (t *tells) may(now time.Time) bool {
	if now.Sub(t.since) >= tellsIn {
		*t = tells{since: now}
	}
	t.n++
	return t.n <= maxTells
}

// Take takes a statement. One of a key that is in no file is checked and not remembered:
// there is nothing to take away.
func (r *Ring) Take(line string) error {
	s, err := ParseStatement(line)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !has(r.keys, s.Key) {
		return nil
	}
	if old, known := r.seen[s.ID()]; known && (old.Void || !s.Void) {
		return nil
	}
	r.seen[s.ID()] = s
	r.unsaved = !r.cfg.Reader && r.cfg.Memory != ""
	r.save()
	r.make()
	return nil
}
