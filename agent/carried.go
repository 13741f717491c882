package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/tree"
)

// A host may carry several datasets. The agent of the one in its options has the others beside
// it: each is an Agent of its own, with a journal, and only the first reports, for all.

const (
	// carryPause is between two tries to take up or drop a dataset.
	carryPause = time.Second
	// carryLook is how often it is looked whether what was taken up has a version, and is answered.
	carryLook = 100 * time.Millisecond
	// storeTime is how long the store may take to say what it has.
	storeTime = 5 * time.Second
	// leaveTime is how long the authority may take to forget a dataset that it answers no more.
	leaveTime = 10 * time.Second
	// asideTime is how long the journal of a dataset is kept that is carried no more.
	asideTime = 24 * time.Hour
)

// carried is what a host carries.
type carried struct {
	mu      sync.Mutex // guards below
	agents  []*Agent   // in order
	trouble string     // why something is not taken up, or dropped, now

	left map[string]time.Time // when a dataset was dropped; carry's goroutine's
}

// running is a dataset that is followed.
type running struct {
	*Agent
	end     context.CancelFunc
	done    chan error // Run's
	metrics *removable // nil: they stay
	left    func()     // called when it is dropped
}

// carries are the agents of the datasets that the host carries, in order.
func (a *Agent) carries() []*Agent {
	a.carried.mu.Lock()
	defer a.carried.mu.Unlock()
	return a.carried.agents
}

func (a *Agent) carryTrouble() string {
	a.carried.mu.Lock()
	defer a.carried.mu.Unlock()
	return a.carried.trouble
}

// wanted are the datasets of the options.
func (c Config) wanted() []string { return append([]string{c.Dataset}, c.Also...) }

// carry follows what the host is to carry until ctx ends, or one of the datasets cannot be
// followed at all.
func (a *Agent) carry(ctx context.Context) error {
	wants := make(chan []string)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { a.followGroups(ctx, wants) })
	all := map[string]*running{}
	failed := make(chan error, 1)
	defer func() {
		for _, r := range all {
			r.end()
		}
		for _, r := range all {
			<-r.done
		}
	}()
	want, err := datasets.ReadCarried(a.cfg.Journal, a.cfg.Dataset)
	if err != nil {
		a.deps.Log.Error("what the host carried cannot be read; going on with what the options say", "error", err)
	}
	if err != nil || len(want) == 1 && want[0] == a.cfg.Dataset {
		want = a.cfg.wanted()
	}
	again := time.NewTimer(0)
	defer again.Stop()
	aside := time.NewTicker(time.Hour)
	defer aside.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case want = <-wants:
		case <-again.C:
		case <-aside.C:
			a.clearAside(time.Now())
			continue
		}
		text := ""
		waits, err := a.bring(ctx, all, want, failed)
		if err != nil {
			text = err.Error()
		}
		switch {
		case waits:
			again.Reset(carryLook)
		case err != nil:
			again.Reset(carryPause)
		}
		a.carried.mu.Lock()
		news := text != a.carried.trouble
		a.carried.trouble = text
		a.carried.mu.Unlock()
		if news && text != "" {
			a.deps.Log.Error("datasets are not carried as they should be, trying again", "error", text)
		}
		a.poke()
	}
}

// bring takes up and drops datasets. The authority hears of it by the list: before a journal is
// put aside, after one has a version. waits tells that something is on its way.
func (a *Agent) bring(ctx context.Context, all map[string]*running, want []string, failed chan<- error) (waits bool, err error) {
	var errs []error
	leaves := false
	for _, d := range want {
		if all[d] != nil {
			continue
		}
		if a.leaves(d, time.Now()) {
			leaves = true
			continue
		}
		r, err := a.takeUp(d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all[d] = r
		var rctx context.Context
		rctx, r.end = context.WithCancel(ctx)
		go func() {
			err := r.follow(rctx)
			if rctx.Err() == nil {
				select {
				case failed <- err:
				default:
				}
			}
			r.done <- err
		}()
	}
	// Nothing is dropped before the authority answers all that is wanted: a dataset that does not
	// exist takes no host down.
	listed, err := datasets.ReadCarried(a.cfg.Journal, a.cfg.Dataset)
	if err != nil {
		listed = nil // it is written anew
	}
	var agents []*Agent
	var names, missing, kept []string
	add := func(d string, r *running) {
		agents = append(agents, r.Agent)
		if r.Status().Version > 0 || slices.Contains(listed, d) {
			names = append(names, d)
		}
	}
	for _, d := range want {
		r := all[d]
		if r == nil || !r.answered() {
			missing = append(missing, d)
		}
		if r != nil {
			add(d, r)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(all)) {
		if len(missing) > 0 && !slices.Contains(want, d) {
			add(d, all[d])
			kept = append(kept, d)
		}
	}
	if len(missing) == 0 && len(agents) < len(all) {
		if err := a.storeKnows(ctx, all, want); err != nil {
			errs = append(errs, err)
			for _, d := range slices.Sorted(maps.Keys(all)) {
				if !slices.Contains(want, d) {
					add(d, all[d])
				}
			}
		}
	}
	if len(kept) > 0 {
		errs = append(errs, fmt.Errorf("%s goes when the authority answers %s", strings.Join(kept, ", "), strings.Join(missing, ", ")))
	}
	if err := a.tellCarried(names); err != nil {
		return false, errors.Join(append(errs, err)...) // what was carried stays, so that both know the same
	}
	a.carried.mu.Lock()
	a.carried.agents = agents
	a.carried.mu.Unlock()
	for d, r := range all {
		if slices.Contains(agents, r.Agent) {
			continue
		}
		delete(all, d)
		r.end()
		<-r.done
		r.metrics.remove()
		if r.left != nil {
			r.left()
		}
		a.carried.left[d] = time.Now()
		if err := a.putAside(d, time.Now()); err != nil {
			errs = append(errs, err)
		}
		a.deps.Log.Info("dataset carried no more", "dataset", d)
	}
	return leaves || len(missing) > 0 && !slices.ContainsFunc(want, func(d string) bool { return all[d] == nil }), errors.Join(errs...)
}

// leaves tells whether the authority answers a dataset still that was dropped a moment ago. Taken up
// again, it would begin with nothing below what that says.
func (a *Agent) leaves(dataset string, now time.Time) bool {
	at, dropped := a.carried.left[dataset]
	if !dropped {
		return false
	}
	path := filepath.Join(datasets.Beside(a.cfg.StatusDir, a.cfg.Dataset, dataset), ServingFile)
	_, err := os.Stat(path)
	if err == nil && now.Sub(at) < leaveTime {
		return true
	}
	delete(a.carried.left, dataset)
	if err == nil {
		err = os.Remove(path) // whoever wrote it is dead
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.deps.Log.Warn("what was answered of a dropped dataset cannot be removed", "path", path, "error", err)
	}
	return false
}

// answered tells whether the authority answers the dataset.
func (a *Agent) answered() bool {
	s, err := a.readServing()
	return err == nil && s.Version > 0
}

// storeKnows tells why what the store says of groups does not have datasets dropped, or nil: one
// that was lost, or put back, has versions older than this host's, or none, and no groups.
func (a *Agent) storeKnows(ctx context.Context, all map[string]*running, want []string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	for _, d := range want {
		var head tree.Head
		n, err := a.deps.Store.Get(ctx, tree.HeadPath(d))
		if err == nil {
			err = tree.Decode(n, &head)
		}
		if err != nil {
			return fmt.Errorf("nothing is dropped: head of %s: %w", d, err)
		}
		if have := all[d].Status().Version; head.Version < have {
			return fmt.Errorf("nothing is dropped: the store has version %d of %s, this host version %d: was the store lost, or put back?", head.Version, d, have)
		}
	}
	return nil
}

// tellCarried writes the list, unless it is what is there. A host that carries its first dataset
// alone, and always has, has no list.
func (a *Agent) tellCarried(names []string) error {
	if len(names) == 0 {
		return nil
	}
	if now, err := datasets.ReadCarried(a.cfg.Journal, a.cfg.Dataset); err == nil && slices.Equal(now, names) {
		return nil
	}
	return datasets.WriteCarried(a.cfg.Journal, names)
}

// takeUp makes what follows a dataset.
func (a *Agent) takeUp(dataset string) (*running, error) {
	left := func() {}
	if dataset == a.cfg.Dataset {
		if a.deps.FetcherOf != nil {
			a.deps.Fetcher, left = a.deps.FetcherOf(dataset)
		}
		return &running{Agent: a, done: make(chan error, 1), left: left}, nil
	}
	cfg, deps := a.cfg, a.deps
	cfg.Dataset, cfg.Also, cfg.Direct, cfg.Operators = dataset, nil, "", ""
	cfg.Journal = datasets.Journal(a.cfg.Journal, a.cfg.Dataset, dataset)
	cfg.StatusDir = datasets.Beside(a.cfg.StatusDir, a.cfg.Dataset, dataset)
	reg := &removable{Registerer: deps.Metrics}
	deps.Metrics, deps.Beside, deps.Fetcher, deps.Progress = reg, nil, nil, nil
	for _, dir := range []string{filepath.Dir(cfg.Journal), cfg.StatusDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("take up dataset %s: %w", dataset, err)
		}
	}
	b, err := New(cfg, deps)
	if err != nil {
		reg.remove()
		return nil, fmt.Errorf("take up dataset %s: %w", dataset, err)
	}
	b.changed = a.changed // the first one reports
	if a.direct != nil {
		b.cfg.Operators = a.cfg.Operators
		if b.direct, err = openGlass(b); err != nil {
			reg.remove()
			return nil, fmt.Errorf("take up dataset %s: %w", dataset, err)
		}
	}
	if deps.FetcherOf != nil {
		b.deps.Fetcher, left = deps.FetcherOf(dataset)
	}
	a.deps.Log.Info("dataset is carried", "dataset", dataset)
	return &running{Agent: b, done: make(chan error, 1), metrics: reg, left: left}, nil
}

// putAside moves a journal out of the way, where it stays for a while.
func (a *Agent) putAside(dataset string, now time.Time) error {
	from := datasets.Journal(a.cfg.Journal, a.cfg.Dataset, dataset)
	to := datasets.Aside(a.cfg.Journal, dataset, now.Unix())
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("put the journal of %s aside: %w", dataset, err)
	}
	if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put the journal of %s aside: %w", dataset, err)
	}
	return nil
}

// clearAside removes journals that were put aside long ago.
func (a *Agent) clearAside(now time.Time) {
	all, _ := filepath.Glob(datasets.AsideGlob(a.cfg.Journal)) // no bad pattern
	for _, path := range all {
		at, err := strconv.ParseInt(path[strings.LastIndexByte(path, '-')+1:], 10, 64)
		if err != nil || now.Sub(time.Unix(at, 0)) < asideTime {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			a.deps.Log.Warn("journal that was put aside not removed", "dir", path, "error", err)
		}
	}
}

// removable is a registry that forgets what was registered by it.
type removable struct {
	prometheus.Registerer
	all []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (r *removable) Register(c prometheus.Collector) error {
	err := r.Registerer.Register(c)
	if err == nil {
		r.all = append(r.all, c)
	}
	return err
}

func (r *removable) remove() {
	if r == nil {
		return
	}
	for _, c := range r.all {
		r.Unregister(c)
	}
}
