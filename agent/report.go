package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// ServingFile is the file in the status directory by which the authority says what
// it answers: tree.HostDataset as JSON, replaced atomically.
const ServingFile = "serving"

const (
	// maxServing bounds the file in octets; it has about 200, and as many for each direct
	// override.
	maxServing = 256 << 10
	// pollEvery is how often the file is looked at when no event comes: inotify does
	// not see every file system, and its queue can overflow.
	pollEvery = 500 * time.Millisecond
	// watchedEvery is for a file system that tells of every change.
	watchedEvery = time.Hour
	// maxText bounds what is reported of a refusal, in octets.
	maxText = 512
	// Pauses between two tries to report. At the end of a long outage a fleet comes back
	// within maxPause: 10,000 hosts are 1,000 sessions a second.
	minPause = 50 * time.Millisecond
	maxPause = 15 * time.Second
)

// readServing reads what the authority answers; the error wraps fs.ErrNotExist when
// it has not said so yet.
func (a *Agent) readServing() (tree.HostDataset, error) {
	var s tree.HostDataset
	path := filepath.Join(a.cfg.StatusDir, ServingFile)
	f, err := a.deps.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return s, err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxServing+1))
	if err != nil {
		return s, err
	}
	if len(b) > maxServing {
		return s, fmt.Errorf("%s has more than %d octets", path, maxServing)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// reporter keeps /hosts/<host> true, of all datasets that the host carries.
type reporter struct {
	*Agent
	said   tree.Host // in the session's node; Name is empty when there is none
	saidAt time.Time
	pause  time.Duration        // until the next try, when one does not work
	beside map[string][]byte    // in the session
	parts  map[*Agent]*reported // by the dataset's agent
}

// reported is what was read and said of one dataset.
type reported struct {
	serving tree.HostDataset // last read; Version 0 before the first
	trust   []byte           // in the session; nil when nothing is
	samples sampler
}

// part is what is known of a dataset in this session.
func (r *reporter) part(a *Agent) *reported {
	p := r.parts[a]
	if p == nil {
		p = &reported{samples: sampler{Agent: a}}
		r.parts[a] = p
	}
	return p
}

// report reports until ctx ends, in one session after another.
func (a *Agent) report(ctx context.Context) {
	r := &reporter{Agent: a, pause: minPause}
	events, stop := a.watchServing()
	defer stop()
	for ctx.Err() == nil {
		err := r.session(ctx, events)
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(r.failed(err)):
		}
	}
}

// failed says that a try did not work, and gives how long it is until the next.
func (r *reporter) failed(err error) time.Duration {
	pause := jitter(r.pause)
	r.pause = min(2*r.pause, maxPause)
	r.deps.Log.Debug("host is not reported, trying again", "host", r.cfg.Host, "pause", pause, "error", err)
	return pause
}

// jitter spreads what many hosts do after the same event: half of d to d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// session reports for as long as one session lives: a report that does not work is tried again
// in it, as the host is not missing while it does.
func (r *reporter) session(ctx context.Context, events <-chan struct{}) error {
	s, err := r.deps.Store.Session(ctx, r.cfg.SessionTTL)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // its nodes go, at once or after SessionTTL
	r.said, r.beside, r.parts = tree.Host{}, nil, map[*Agent]*reported{}
	every := pollEvery
	if _, ok := r.deps.FS.(journal.Watcher); ok {
		every = watchedEvery
	}
	poll := time.NewTimer(0)
	defer poll.Stop()
	var sampled <-chan time.Time
	if r.cfg.SampleEvery > 0 {
		look := time.NewTicker(sampleLook)
		defer look.Stop()
		sampled = look.C
	}
	var beside <-chan struct{}
	if r.deps.Beside != nil {
		beside = r.deps.Beside.Changed()
	}
	for {
		wait, err := r.put(ctx, s)
		if errors.Is(err, store.ErrSessionLost) {
			return err
		}
		if wait = min(wait, every); err != nil {
			wait = r.failed(err)
		}
		poll.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Done():
			return store.ErrSessionLost
		case <-events:
		case <-r.changed:
		case <-beside:
		case <-poll.C:
		case <-sampled:
			for _, a := range r.carries() {
				r.part(a).samples.report(ctx, s, time.Now())
			}
		}
	}
}

// put says what is due, and gives how long nothing will be if nothing happens.
func (r *reporter) put(ctx context.Context, s store.Session) (wait time.Duration, err error) {
	host, wait, due := r.due(time.Now())
	if due {
		if _, err := s.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.HostPath(r.cfg.Host), Value: tree.Encode(host)}}}); err != nil {
			return 0, err
		}
		r.said, r.saidAt, r.pause = host, time.Now(), minPause
		r.metrics.reports.Inc()
		wait = watchedEvery
	}
	for _, a := range r.carries() {
		r.putTrust(ctx, s, a)
	}
	return wait, r.putBeside(ctx, s)
}

// putTrust says whom the host believes, if that changed. What does not work is tried again
// with the next report: the host counts as live all the same.
func (r *reporter) putTrust(ctx context.Context, s store.Session, a *Agent) {
	now, p := tree.Encode(a.trusted()), r.part(a)
	if bytes.Equal(now, p.trust) {
		return
	}
	if _, err := s.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.TrustPath(a.cfg.Dataset, a.cfg.Host), Value: now}}}); err != nil {
		r.deps.Log.Debug("whom the host believes is not reported, trying again", "host", r.cfg.Host, "error", err)
		return
	}
	p.trust = now
}

// putBeside puts what lives beside the host's node, if it changed.
func (r *reporter) putBeside(ctx context.Context, s store.Session) error {
	if r.deps.Beside == nil {
		return nil
	}
	now := map[string][]byte{}
	var ops []store.Op
	for _, op := range r.deps.Beside.Nodes() {
		now[op.Path] = op.Value
		if was, there := r.beside[op.Path]; !there || !bytes.Equal(op.Value, was) {
			ops = append(ops, op)
		}
	}
	for path := range r.beside {
		if _, there := now[path]; !there {
			ops = append(ops, store.Op{Path: path, Delete: true})
		}
	}
	if len(ops) == 0 {
		return nil
	}
	if _, err := s.Commit(ctx, store.Txn{Do: ops}); err != nil {
		return err
	}
	r.beside = now
	return nil
}

// due reads what is to be reported, and tells whether it is time, or after how long it is to be
// looked at again. That the content changed shows in the digest, which leaves the freshness
// record out.
func (r *reporter) due(now time.Time) (host tree.Host, wait time.Duration, due bool) {
	host = tree.Host{Name: r.cfg.Host, DNS: r.cfg.DNS, HTTP: r.cfg.HTTP, Labels: r.cfg.Labels, Datasets: map[string]tree.HostDataset{}}
	all := r.carries()
	var refused []string
	for _, a := range all {
		host.Carries = append(host.Carries, a.cfg.Dataset)
		about := ""
		if len(all) > 1 {
			about = a.cfg.Dataset + ": "
		}
		s := a.Status()
		switch {
		case s.Trouble != "":
			refused = append(refused, about+"journal: "+s.Trouble)
		case s.Refused != "":
			refused = append(refused, about+s.Refused)
		}
		for _, text := range a.Alarms() {
			host.Alarms = append(host.Alarms, about+text)
		}
		if serving := r.read(a); serving.Version > 0 {
			host.Datasets[a.cfg.Dataset] = serving
		}
	}
	if text := r.carryTrouble(); text != "" {
		refused = append(refused, "datasets: "+text)
	}
	host.Refused = strings.Join(refused, "; ")
	if all := r.DirectTroubles(); len(all) > 0 && host.Refused == "" {
		host.Refused = "direct: " + strings.Join(all, "; ")
	}
	host.Refused = host.Refused[:min(len(host.Refused), maxText)]
	if r.said.Name == "" || host.Refused != r.said.Refused || !slices.Equal(host.Alarms, r.said.Alarms) || !slices.Equal(host.Carries, r.said.Carries) || len(host.Datasets) != len(r.said.Datasets) {
		return host, 0, true
	}
	news := false
	for name, s := range host.Datasets {
		old, known := r.said.Datasets[name]
		if !known || s.Digest != old.Digest || !slices.Equal(s.Direct, old.Direct) || !sameTrial(s.Trial, old.Trial) {
			return host, 0, true
		}
		news = news || s.Version != old.Version || s.Since != old.Since || s.Trial != nil && *s.Trial != *old.Trial
	}
	if !news {
		return host, watchedEvery, false
	}
	wait = r.saidAt.Add(r.cfg.ReportEvery).Sub(now)
	return host, wait, wait <= 0
}

// read reads what the authority answers of a dataset.
func (r *reporter) read(a *Agent) tree.HostDataset {
	p := r.part(a)
	serving, err := a.readServing()
	switch {
	case err == nil:
		p.serving = serving
		a.metrics.serving.Set(float64(serving.Version))
	case errors.Is(err, fs.ErrNotExist):
		// An authority that starts removes the file: it answers nothing yet.
		p.serving = tree.HostDataset{}
		a.metrics.serving.Set(0)
	default:
		r.deps.Log.Debug("what the authority answers cannot be read", "dataset", a.cfg.Dataset, "error", err)
	}
	return p.serving
}

// sameTrial tells whether two trials differ in what was counted alone.
func sameTrial(a, b *tree.TrialState) bool {
	return a == nil && b == nil || a != nil && b != nil && a.ID == b.ID && a.Number == b.Number && a.Refused == b.Refused && a.Since == b.Since
}

// watchServing tells of changes in the status directory by inotify. Where that
// cannot be had the channel stays silent, and the poll must do.
func (a *Agent) watchServing() (events <-chan struct{}, stop func()) {
	out := make(chan struct{}, 1)
	quiet := func(err error) (<-chan struct{}, func()) {
		a.deps.Log.Warn("no events for the authority's status, polling", "dir", a.cfg.StatusDir, "every", pollEvery, "error", err)
		return out, func() {}
	}
	if by, ok := a.deps.FS.(journal.Watcher); ok {
		return by.Watch(a.cfg.StatusDir)
	}
	if err := os.MkdirAll(a.cfg.StatusDir, 0o755); err != nil {
		return quiet(err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return quiet(err)
	}
	if err := w.Add(a.cfg.StatusDir); err != nil {
		return quiet(errors.Join(err, w.Close()))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case e, open := <-w.Events:
				if !open {
					return
				}
				if filepath.Base(e.Name) != ServingFile || !e.Has(fsnotify.Create|fsnotify.Write|fsnotify.Remove) {
					continue
				}
			case _, open := <-w.Errors:
				if !open {
					return
				} // an overflow: look
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() {
		_ = w.Close() // nothing more to do about it
		<-done
	}
}
