package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
)

const (
	// historyEntries and historyBytes bound the log: who has been away for more reads
	// all again. ZooKeeper keeps it in memory.
	historyEntries = 10_000
	historyBytes   = 64 << 20
	// trimMost is how many znodes one multi deletes.
	trimMost = 200
	// lastEntry is the number after which the log goes on in a new generation:
	// ZooKeeper's numbers end at 2^31 - 1, and then no commit would succeed.
	lastEntry = 1 << 30
	// janitorDelay is how long a client must have been there before it becomes the
	// janitor: commands of a second need not.
	janitorDelay = time.Second
	// janitorSpread is within how much time clients try to take over from a janitor
	// that has gone.
	janitorSpread = 200 * time.Millisecond
	// janitorTick is how often the log's length is looked at.
	janitorTick = time.Second
	// buryPause is the least time between two looks for dead sessions: when thousands
	// start or end, that makes a few looks of many.
	buryPause = 100 * time.Millisecond
	// janitorPoll is how often it is looked for dead sessions though nobody said that
	// one has gone, as tailPoll.
	janitorPoll = 15 * time.Second
)

// janitor does what one client must do for all, while it is the one.
func (s *Store) janitor(ctx context.Context) {
	pause(ctx, janitorDelay)
	for ctx.Err() == nil {
		err := s.office(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Debug("janitor of the store interrupted", "error", err)
			pause(ctx, retryPause+rand.N(janitorSpread))
		}
	}
}

// office waits until there is no janitor, becomes it, and works until an error. The
// end of the ZooKeeper session, which ends the office, is no error: then two work
// for a while, which does no harm.
func (s *Store) office(ctx context.Context) error {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	path := s.root + janitorName
	there, left, err := s.existsW(ctx, path)
	if err != nil {
		return err
	}
	if !there {
		pause(ctx, rand.N(janitorSpread))
		_, err := read(rctx, func() (string, error) { return s.conn().Create(path, nil, zk.FlagEphemeral, s.acl) })
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	st, err := s.stat(rctx, path)
	if err != nil {
		return err
	}
	if st != nil && st.EphemeralOwner == s.conn().SessionID() {
		return s.clean(ctx)
	}
	// The library says so as well when it has lost the watch with its session.
	select {
	case <-left:
	case <-ctx.Done():
	}
	return nil
}

// clean buries the dead and trims the log, until an error.
func (s *Store) clean(ctx context.Context) error {
	log, err := s.survey(ctx)
	if err != nil {
		return err
	}
	tick, poll := time.NewTicker(janitorTick), time.NewTicker(janitorPoll)
	defer tick.Stop()
	defer poll.Stop()
	changed, err := s.buryAll(ctx, true)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			pause(ctx, buryPause)
			changed, err = s.buryAll(ctx, true)
		case <-poll.C:
			_, err = s.buryAll(ctx, false)
		case <-tick.C:
			err = log.tidy(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// buryAll ends all sessions whose marker is gone. With watch it gives what tells
// that sessions have come or gone.
func (s *Store) buryAll(ctx context.Context, watch bool) (<-chan zk.Event, error) {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	// In this order: both znodes of a session are made at once.
	all, err := s.children(rctx, s.root+ownedName)
	if err != nil {
		return nil, err
	}
	type watched struct {
		markers []string
		changed <-chan zk.Event
	}
	w, err := read(rctx, func() (w watched, err error) {
		if watch {
			w.markers, _, w.changed, err = s.conn().ChildrenW(s.root + sessionsName)
		} else {
			w.markers, _, err = s.conn().Children(s.root + sessionsName)
		}
		return w, err
	})
	if err != nil {
		return nil, err
	}
	alive := make(map[string]bool, len(w.markers))
	for _, id := range w.markers {
		alive[id] = true
	}
	for _, id := range all {
		if alive[id] || !isID(id) {
			continue
		}
		if err := s.buryDead(ctx, id); err != nil {
			return nil, err
		}
		s.log.Debug("nodes of a session that has ended deleted", "session", id)
	}
	return w.changed, nil
}

// logEntry is what the janitor knows of an entry.
type logEntry struct {
	pos  position
	rev  store.Revision
	size int
	bulk string
}

// survey is the whole log as the janitor keeps it in mind, oldest entry first.
type survey struct {
	s       *Store
	life    int
	next    position
	entries []logEntry
	size    int
}

// survey reads the log from its start.
func (s *Store) survey(ctx context.Context) (*survey, error) {
	at, err := s.end(ctx, true)
	if err != nil {
		return nil, err
	}
	v := &survey{s: s, life: at.life, next: at.next}
	names, err := s.children(ctx, s.root+logName)
	if err != nil {
		return nil, err
	}
	var gens []int64
	for _, name := range names {
		if g, err := strconv.ParseInt(name, 10, 64); err == nil && g >= 0 && g <= at.next.gen {
			gens = append(gens, g)
		}
	}
	slices.Sort(gens)
	for _, g := range gens {
		seqs, err := s.entries(ctx, g)
		if err != nil {
			return nil, err
		}
		if g == at.next.gen {
			i, _ := slices.BinarySearch(seqs, at.next.seq)
			seqs = seqs[:i]
		}
		found := make([]*logEntry, len(seqs))
		err = each(len(seqs), func(i int) error {
			e, err := bounded(ctx, func(ctx context.Context) (*logEntry, error) { return s.measure(ctx, position{g, seqs[i]}) })
			found[i] = e
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, e := range found {
			if e != nil {
				v.add(*e)
			}
		}
	}
	return v, nil
}

// measure reads how large an entry is; nil when it is gone.
func (s *Store) measure(ctx context.Context, p position) (*logEntry, error) {
	z, err := s.get(ctx, s.entry(p))
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e := &logEntry{pos: p, rev: store.Revision(z.stat.Czxid), size: len(z.data) + len(s.root)}
	if r, err := decodeEntry(z.data); err == nil && r.bulk != "" {
		e.bulk = r.bulk
		st, err := s.stat(ctx, s.bulk(r.bulk))
		if err != nil {
			return nil, err
		}
		if st != nil {
			e.size += int(st.DataLength)
		}
	}
	return e, nil
}

func (v *survey) add(e logEntry) {
	v.entries = append(v.entries, e)
	v.size += e.size
}

// tidy takes in what was appended, and trims the log when it is too long. A new
// generation begins when the numbers run out.
func (v *survey) tidy(ctx context.Context) error {
	s := v.s
	end, err := s.end(ctx, false)
	if err != nil {
		return err
	}
	for v.next != end.next {
		e, err := s.tail.at(ctx, v.life, v.next)
		if err != nil {
			return err
		}
		v.add(logEntry{pos: e.pos, rev: e.rev, size: e.size, bulk: e.bulk})
		v.next = e.next
	}
	entries, bytes := s.cfg.entries, s.cfg.bytes
	if entries == 0 {
		entries = historyEntries
	}
	if bytes == 0 {
		bytes = historyBytes
	}
	// A tenth more, so that there is something to do when it is done.
	if len(v.entries) > entries+entries/10 || v.size > bytes+bytes/10 {
		if err := v.trim(ctx, entries, bytes); err != nil {
			return err
		}
	}
	last := s.cfg.lastEntry
	if last == 0 {
		last = lastEntry
	}
	if v.next.seq > last {
		return s.rotate(ctx, v.next.gen)
	}
	return nil
}

// trim deletes the oldest entries until no more are left, or octets, than given; the
// newest one stays.
func (v *survey) trim(ctx context.Context, entries, bytes int) error {
	s := v.s
	for len(v.entries) > 1 && (len(v.entries) > entries || v.size > bytes) {
		var ops []any
		n, size := 0, v.size
		for n < len(v.entries)-1 && (len(v.entries)-n > entries || size > bytes) && len(ops) < trimMost {
			e := v.entries[n]
			ops = append(ops, &zk.DeleteRequest{Path: s.entry(e.pos), Version: -1})
			if e.bulk != "" {
				ops = append(ops, &zk.DeleteRequest{Path: s.bulk(e.bulk), Version: -1})
			}
			if n++; v.entries[n].pos.gen != e.pos.gen {
				ops = append(ops, &zk.DeleteRequest{Path: s.generation(e.pos.gen), Version: -1})
			}
			size -= e.size
		}
		rctx, cancel, err := s.request(ctx)
		if err != nil {
			return err
		}
		_, err = await(rctx, func() ([]zk.MultiResponse, error) { return s.conn().Multi(ops...) })
		cancel()
		if err != nil {
			return fmt.Errorf("trim log: %w", err) // another survey will see what is left
		}
		v.entries, v.size = v.entries[n:], size
	}
	return v.sweep(ctx)
}

// sweep deletes entries that were written ahead by commits that did not happen. Those
// that may still happen are newer than the log's oldest entry; if one should not be,
// it finds its entry gone and writes it again.
func (v *survey) sweep(ctx context.Context) error {
	s := v.s
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	names, err := s.children(rctx, s.root+bulkName)
	if err != nil {
		return err
	}
	used := make(map[string]bool)
	for _, e := range v.entries {
		used[e.bulk] = true
	}
	for _, name := range names {
		if used[name] {
			continue
		}
		st, err := s.stat(rctx, s.bulk(name))
		if err == nil && st != nil && store.Revision(st.Czxid) < v.entries[0].rev {
			err = s.remove(rctx, s.bulk(name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rotate begins the generation after gen: the last entry of the one says so, and the
// first of the other is of the same commit.
func (s *Store) rotate(ctx context.Context, gen int64) error {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	f, err := s.readFormat(rctx)
	if err != nil {
		return err
	}
	if f.gen != gen {
		return nil
	}
	_, err = await(rctx, func() ([]zk.MultiResponse, error) {
		return s.conn().Multi(
			&zk.SetDataRequest{Path: s.root + formatName, Data: format{gen: gen + 1}.encode(), Version: f.version},
			s.create(s.generation(gen)+"/"+entryPrefix, encodeNext(gen+1), zk.FlagSequence),
			s.create(s.generation(gen+1), nil, zk.FlagPersistent),
			s.create(s.generation(gen+1)+"/"+entryPrefix, encodeChanges(nil), zk.FlagSequence),
			&zk.SetDataRequest{Path: s.root + headName, Version: -1},
		)
	})
	if err != nil {
		return fmt.Errorf("start generation %d of the log: %w", gen+1, err)
	}
	s.log.Info("log of the store goes on in a new generation", "number", gen+1)
	return nil
}
