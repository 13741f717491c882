package fleettest

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/simstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
	"github.com/zonecast/zonecast/store"
)

// step is one kind of what happens.
type step struct {
	kind   string
	weight int
	do     func(w *world) string // says what was done; empty: nothing
}

// steps are all kinds; the weights are those of the mixed scene. Their order and their draws are
// what a seed means: a kind that is new goes to the end.
func steps() []step {
	return []step{
		{"claim", 300, func(w *world) string {
			i := w.rng.IntN(len(w.people.shards))
			w.people.claim(i, w.rng.IntN)
			return "claim " + w.people.shards[i].path
		}},
		{"register", 60, func(w *world) string {
			i := w.rng.IntN(len(w.people.servers))
			w.people.register(i, w.rng.IntN)
			return "register " + w.people.servers[i].name
		}},
		{"wait", 150, func(w *world) string {
			d := time.Duration(w.rng.IntN(1500)) * time.Millisecond
			time.Sleep(d)
			return fmt.Sprint("wait ", d)
		}},
		{"partition", 80, func(w *world) string {
			all := w.all()
			s := all[w.rng.IntN(len(all))]
			s.setCut(!s.cut)
			return fmt.Sprintf("cut off %s: %v", s.name, s.cut)
		}},
		{"heal", 30, func(w *world) string {
			for _, s := range w.all() {
				if s.cut {
					s.setCut(false)
				}
			}
			return "all partitions healed"
		}},
		{"crash", 50, func(w *world) string {
			s := w.control[w.rng.IntN(len(w.control))]
			return w.toggle(s)
		}},
		{"agent", 30, func(w *world) string {
			h := w.anyHost()
			return w.toggle(h.agent)
		}},
		{"server", 25, func(w *world) string {
			h := w.anyHost()
			h.restartServer()
			return "restart " + h.server.name
		}},
		{"machine", 30, func(w *world) string {
			h := w.anyHost()
			loss := faultfs.AllLosses()[w.rng.IntN(len(faultfs.AllLosses()))]
			h.crash(loss)
			h.boot()
			return fmt.Sprintf("crash %s, loss %d", h.name, loss)
		}},
		{"disk", 40, func(w *world) string {
			h := w.anyHost()
			fault := []error{syscall.ENOSPC, syscall.EROFS, nil, nil}[w.rng.IntN(4)]
			h.getDisk().Refuse(fault)
			return fmt.Sprintf("disk of %s: %v", h.name, fault)
		}},
		{"rot", 10, func(w *world) string {
			h := w.anyHost()
			disk := h.getDisk()
			var files []string
			for _, name := range disk.Names() {
				if filepath.Dir(name) == h.path("journal") && len(disk.Bytes(name)) > 0 {
					files = append(files, name)
				}
			}
			if len(files) == 0 {
				return ""
			}
			file := files[w.rng.IntN(len(files))]
			at := w.rng.IntN(len(disk.Bytes(file)))
			disk.Flip(file, at, byte(1<<w.rng.IntN(8)))
			h.rotten = true
			return fmt.Sprintf("bit of %s at %d flips", file, at)
		}},
		{"replica", 30, func(w *world) string {
			n, up := w.c.Replicas()
			i := w.rng.IntN(n)
			if up < n || w.rng.IntN(8) == 0 {
				for k := range n {
					w.c.SetReplica(k, true)
				}
				return "all replicas are up"
			}
			w.c.SetReplica(i, false)
			if w.without == majority {
				w.c.PutBack(w.c.Revision() - 3)
				w.p.putBack()
			}
			if w.rng.IntN(4) == 0 {
				w.c.SetReplica((i+1)%n, false)
				return "two replicas are down"
			}
			return fmt.Sprintf("replica %d is down", i)
		}},
		{"elect", 20, func(w *world) string {
			d := time.Duration(w.rng.IntN(3000)) * time.Millisecond
			w.c.Elect(d)
			return fmt.Sprint("the replicas elect for ", d)
		}},
		{"network", 20, func(w *world) string {
			f := simstore.Faults{Lose: w.rng.IntN(100), Unsaid: w.rng.IntN(100), Late: w.rng.IntN(60), Twice: w.rng.IntN(60)}
			if w.rng.IntN(2) == 0 {
				f = simstore.Faults{}
			}
			w.c.SetFaults(f)
			return fmt.Sprintf("network: %+v", f)
		}},
		{"clock", 15, func(w *world) string {
			s := w.control[w.rng.IntN(len(w.control))]
			d := time.Duration(w.rng.IntN(7200)-3600) * time.Second
			w.mu.Lock()
			w.skew[s.name] = d
			w.mu.Unlock()
			return fmt.Sprintf("clock of %s jumps by %s", s.name, d)
		}},
		{"two", 10, func(w *world) string { // a person's hand, or an election of which the old leader has not heard
			path := []string{tree.ElectPublisher + "/" + dataset, tree.ElectPresenter + "/" + dataset, tree.ElectMutator}[w.rng.IntN(3)]
			w.put(store.Op{Path: path, Delete: true})
			return "two are elected at " + path
		}},
		{"thief", 12, func(w *world) string {
			w.put(store.Op{Path: tree.ManifestPath(dataset), Value: w.theft(w.thief, 2)})
			return "a thief signs a manifest"
		}},
		{"replay", 12, func(w *world) string {
			w.put(store.Op{Path: tree.ManifestPath(dataset), Value: w.replay()})
			return "an old manifest comes again"
		}},
		{"garbage", 15, func(w *world) string {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.garbage = []int{0, 50, 100}[w.rng.IntN(3)]
			return fmt.Sprintf("of what peers send %d %% is garbage", w.garbage)
		}},
		{"spoil", 10, func(w *world) string { return w.spoil() }},
		{"tamper", 5, func(w *world) string {
			h := w.anyHost()
			h.tamper()
			return "somebody writes another journal on " + h.name
		}},
		{"compact", 5, func(w *world) string {
			w.c.Compact()
			return "the store forgets its history"
		}},
		{"trim", 20, func(w *world) string { // of what peers have, too: a host that comes then needs a snapshot
			h := w.anyHost()
			h.crash(faultfs.Lost)
			h.rotten = true
			h.setDisk(faultfs.New())
			_ = os.Remove(trial.Path(h.path("journal"))) // mostly there is none
			h.served.crashed(0)
			h.boot()
			return h.name + " gets a new disk"
		}},
		{"blackout", 4, func(w *world) string { // and the power fails on one of the hosts
			w.dark()
			h := w.anyHost()
			h.crash(faultfs.AllLosses()[w.rng.IntN(len(faultfs.AllLosses()))])
			h.boot()
			d := 35*time.Second + time.Duration(w.rng.IntN(60))*time.Second
			time.Sleep(d)
			synctest.Wait()
			for _, h := range w.hosts {
				w.p.stillServes(h)
			}
			w.mend()
			return fmt.Sprintf("nobody but the hosts is alive for %s, %s restarts", d, h.name)
		}},
		{"stolen", 12, func(w *world) string {
			w.put(store.Op{Path: tree.ManifestPath(dataset), Value: w.theft(w.stolen, 2)})
			return "a thief signs a manifest with a key that is revoked"
		}},
		{"accident", 6, func(w *world) string {
			w.put(w.people.bare)
			return "a source loses nearly everything"
		}},
		{"lose", 6, func(w *world) string { return w.lose() }},
		{"late", 0, func(w *world) string { // as network, for who looks at nothing else
			w.c.SetFaults(simstore.Faults{Late: 200, Twice: 200})
			return "many commits come late and twice"
		}},
		{"gap", 4, func(w *world) string { return w.gap() }},
		{"try", 25, func(w *world) string {
			harmful := w.rng.IntN(3) == 0
			w.people.try(w.rng.IntN, harmful)
			return fmt.Sprintf("claim %s, harmful %v", w.people.ringed.path, harmful)
		}},
		{"leak", 3, func(w *world) string { return w.leak() }},
		{"heist", 0, func(w *world) string { return w.heist() }},
		{"void", 0, func(w *world) string { return w.void() }},
		{"word", 6, func(w *world) string { return w.word(w.rng.IntN(2) == 0) }},
		{"desert", 3, func(w *world) string { return w.desert() }},
		{"lure", 6, func(w *world) string {
			w.lure([]ed25519.PrivateKey{w.thief, w.stolen}[w.rng.IntN(2)])
			return "a thief offers a trial"
		}},
		{"reoffer", 6, func(w *world) string { return w.reoffer() }},
		{"group", 6, func(w *world) string { return w.group() }},
		{"slow", 10, func(w *world) string {
			d := []time.Duration{0, 100 * time.Millisecond, slowest}[w.rng.IntN(3)]
			w.c.SetSlow(d)
			return fmt.Sprint("the store is slower by ", d)
		}},
	}
}

// slowest is what a message to or from the store takes at most when that is slow: a call then takes
// 0.8 s, and gives up after 1 s.
const slowest = 400 * time.Millisecond

// dark ends all that is not a host.
func (w *world) dark() {
	for _, s := range w.control {
		s.kill()
	}
	n, _ := w.c.Replicas()
	for i := range n {
		w.c.SetReplica(i, false)
	}
}

// all are the processes that the network can cut off.
func (w *world) all() []*stage {
	all := slices.Clone(w.control)
	for _, h := range w.hosts {
		all = append(all, h.agent)
	}
	return all
}

func (w *world) anyHost() *simHost { return w.hosts[w.rng.IntN(len(w.hosts))] }

func (w *world) toggle(s *stage) string {
	if s.done != nil {
		s.kill()
		return "kill " + s.name
	}
	s.start()
	return "start " + s.name
}

func (h *simHost) restartServer() {
	h.server.kill()
	h.served.ended(h.durable())
	h.served.life(h)
	h.server.start()
}

// put is somebody who may write to the store, and does.
func (w *world) put(op store.Op, on ...store.Cond) {
	c := w.c.Client("somebody")
	defer c.Die()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, _ = c.Commit(ctx, store.Txn{If: on, Do: []store.Op{op}}) // it may not be there
}

// theft is a manifest of another dataset at a version so far above the newest, signed by a key that no
// host trusts, or that is revoked. Its content is in the log.
func (w *world) theft(key ed25519.PrivateKey, ahead uint64) []byte {
	w.p.mu.Lock()
	full := forgedDelta(w.p.head.Version + ahead)
	w.p.mu.Unlock()
	d, err := snapshot.Start(full)
	if err != nil {
		panic(err)
	}
	m := snapshot.Manifest{Dataset: dataset, Version: d.Version(), Time: d.Time(), Digest: d.Digest(), Chain: d.Chain(), Content: d.Content(), Oldest: d.Version()}
	b, err := m.Sign(key)
	if err != nil {
		panic(err) // it is well formed
	}
	encoded, err := full.Encode()
	if err != nil {
		panic(err)
	}
	_, op, err := follow.LogOps(dataset, full.Version, encoded)
	if err != nil {
		panic(err)
	}
	w.put(op)
	return b
}

// forgedDelta is a dataset that nobody published.
func forgedDelta(version uint64) *snapshot.Delta {
	set := record.NewRRset(mustName("h1.example.net."), record.TypeA, 60, record.Rdata([]byte{203, 0, 113, 66}))
	return &snapshot.Delta{Dataset: dataset, Version: version, Time: time.Now().UnixMilli(), Full: true, Put: []record.RRset{set}, Digest: snapshot.HashRRset(set)}
}

func forged(w *world) *snapshot.Dataset {
	w.p.mu.Lock()
	version := w.p.head.Version
	w.p.mu.Unlock()
	d, err := snapshot.Start(forgedDelta(version + 2))
	if err != nil {
		panic(err)
	}
	return d
}

// replay is one of the manifests that were signed before.
func (w *world) replay() []byte {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if len(w.p.manifests) == 0 {
		return []byte("{}")
	}
	return w.p.manifests[w.rng.IntN(len(w.p.manifests))]
}

// lose deletes a node of the log. Whoever has followed beyond it gets the others past it: a publisher
// by a snapshot, the presenter until one is signed.
func (w *world) lose() string {
	nodes := w.c.Nodes(tree.LogPrefix(dataset))
	if len(nodes) == 0 {
		return ""
	}
	n := nodes[w.rng.IntN(len(nodes))]
	w.put(store.Op{Path: n.Path, Delete: true})
	return n.Path + " is lost"
}

// gap deletes the newest node of the log when no publisher has it.
func (w *world) gap() string {
	for _, s := range w.control {
		if strings.HasPrefix(s.name, "publisher") {
			s.setCut(true)
		}
	}
	w.people.claim(w.rng.IntN(len(w.people.shards)), w.rng.IntN)
	time.Sleep(time.Duration(500+w.rng.IntN(1500)) * time.Millisecond)
	synctest.Wait()
	nodes := w.c.Nodes(tree.LogPrefix(dataset))
	if len(nodes) == 0 {
		return ""
	}
	n := nodes[len(nodes)-1]
	w.put(store.Op{Path: n.Path, Delete: true})
	return n.Path + " is lost, publishers are cut off"
}

// spoil damages a node of the log.
func (w *world) spoil() string {
	nodes := w.c.Nodes(tree.LogPrefix(dataset))
	if len(nodes) == 0 {
		return ""
	}
	n := nodes[w.rng.IntN(len(nodes))]
	b := slices.Clone(n.Value)
	b[w.rng.IntN(len(b))] ^= 0x20
	w.put(store.Op{Path: n.Path, Value: b})
	return "damage " + n.Path
}

// tamper writes a journal that a thief has signed over that of a host.
func (h *simHost) tamper() {
	from := faultfs.New()
	wr, _, err := journal.OpenWriter(h.path("journal"), journal.Options{Dataset: dataset, FS: from})
	if err != nil {
		panic(err)
	}
	d := forged(h.w)
	m := snapshot.Manifest{Dataset: dataset, Version: d.Version(), Time: d.Time(), Digest: d.Digest(), Chain: d.Chain(), Content: d.Content(), Oldest: d.Version()}
	b, err := m.Sign(h.w.thief)
	if err == nil {
		err = wr.ResetDataset(d, b)
	}
	if err != nil {
		panic(err)
	}
	_ = wr.Close() // in memory
	disk := h.getDisk()
	disk.Refuse(nil)
	for _, name := range from.Names() {
		_ = disk.Remove(name)
		f, err := disk.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err == nil {
			_, _ = f.Write(from.Bytes(name)) // the disk does as it can
			_ = f.Close()
		}
	}
	h.rotten = true
}

// pause is between two steps.
func (w *world) pause() {
	time.Sleep(time.Duration(w.rng.ExpFloat64() * float64(40*time.Millisecond)))
	synctest.Wait()
}

// play makes the steps, until a promise is broken.
func (w *world) play() {
	all := steps()
	total := 0
	for i := range all {
		if w.only != nil {
			all[i].weight = w.only[all[i].kind]
		}
		total += all[i].weight
	}
	w.converge()
	for w.n = 1; w.n <= w.steps && w.p.ok(); w.n++ {
		at := w.rng.IntN(total)
		for _, s := range all {
			if at -= s.weight; at < 0 {
				w.note(s.do(w))
				break
			}
		}
		w.pause()
		w.p.stillServes(w.hosts[w.n%len(w.hosts)])
		w.p.tries(w.hosts[w.n%len(w.hosts)])
		if w.n%w.quiet == 0 || w.n == w.steps {
			w.converge()
		}
	}
}

func (w *world) note(what string) {
	w.did = append(w.did, fmt.Sprintf("%6d %s  %s", w.n, time.Now().Format("15:04:05.000"), what))
	if len(w.did) > 60 {
		w.did = slices.Clone(w.did[len(w.did)-40:])
	}
}

// mend takes every fault away and starts what is dead.
func (w *world) mend() {
	w.c.SetFaults(simstore.Faults{})
	w.c.SetSlow(0)
	n, _ := w.c.Replicas()
	for i := range n {
		w.c.SetReplica(i, true)
	}
	w.mu.Lock()
	w.garbage = 0
	clear(w.skew)
	w.mu.Unlock()
	for _, s := range w.control {
		s.setCut(false)
		s.start()
	}
	for _, h := range w.hosts {
		h.getDisk().Refuse(nil)
		h.agent.setCut(false)
		if h.rotten { // a person looks at a machine whose disk is bad
			h.agent.kill()
			h.server.kill()
			h.boot()
			h.rotten = false
		}
		h.agent.start()
		h.server.start()
	}
}

// converge heals all, and holds that everything comes together within four minutes.
func (w *world) converge() {
	w.mend()
	began := time.Now()
	var missing string
	var least uint64
	for time.Since(began) < 4*time.Minute {
		if missing = w.unvoided(); missing == "" {
			missing = w.people.restored()
		}
		if missing == "" {
			missing = w.people.settled(w.rng.IntN)
		}
		if missing == "" {
			missing = w.people.untried(w.rng.IntN)
		}
		if missing == "" {
			if least == 0 {
				w.p.mu.Lock()
				least = w.p.head.Version + 1
				w.p.mu.Unlock()
			}
			if missing = w.apart(least); missing == "" {
				w.p.held()
				w.p.mu.Lock()
				if w.p.rich == 0 {
					w.p.rich = w.p.head.Version
				}
				w.p.mu.Unlock()
				return
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, h := range w.hosts {
			w.p.stillServes(h)
			w.p.tries(h)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, status := range w.status {
		missing += fmt.Sprintf("\n%s: %+v", name, status())
	}
	w.p.broken(converges, "%s after everything was healed: %s", time.Since(began), missing)
}

// apart tells what is not yet as it is to be.
func (w *world) apart(least uint64) string {
	want := w.p.fromScratch()
	w.p.mu.Lock()
	head := w.p.head
	w.p.mu.Unlock()
	if head.Version < least {
		return fmt.Sprintf("the head is at version %d, expected %d or more", head.Version, least)
	}
	if head.Digest != want {
		return fmt.Sprintf("version %d has digest %s, the claims make %s", head.Version, head.Digest, want)
	}
	if n, there := w.c.Node(tree.OfferPath(dataset)); there && w.rings() {
		return fmt.Sprintf("offered is %.200s, and nothing is tried", n.Value)
	}
	for _, h := range w.hosts {
		if h.served.tries() {
			return h.name + " tries something, and nothing is offered"
		}
		if v, digest := h.served.answers(); v < least || digest != want {
			status := h.status()
			return fmt.Sprintf("%s serves version %d, digest %.12s, expected %d or more, %.12s; its agent has %d; refused: %s; trouble: %s",
				h.name, v, digest, least, want, status.Version, status.Refused, status.Trouble)
		}
	}
	return ""
}

// report is what a person needs of a world that broke a promise.
func (w *world) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "promise %q is broken: %s\nseed %d, step %d of %d, %d hosts, without %q; the last steps:\n", w.p.first, w.p.how, w.seed, w.n, w.steps, len(w.hosts), w.without)
	for _, s := range w.did {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}
