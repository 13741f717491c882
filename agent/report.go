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

// reporter keeps /hosts/<host> true.
type reporter struct {
	*Agent
	said    tree.Host // in the session's node; Name is empty when there is none
	saidAt  time.Time
	serving tree.HostDataset // last read; Version 0 before the first
	beside  []store.Op       // in the session; nil when nothing is
	trust   []byte           // likewise
}

// report reports until ctx ends, in one session after another.
func (a *Agent) report(ctx context.Context) {
	r := &reporter{Agent: a}
	events, stop := a.watchServing()
	defer stop()
	pause := minPause
	for ctx.Err() == nil {
		err := r.session(ctx, events, func() { pause = minPause })
		if ctx.Err() != nil {
			return
		}
		a.deps.Log.Debug("host is not reported, trying again", "host", a.cfg.Host, "pause", pause, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(jitter(pause)):
		}
		pause = min(2*pause, maxPause)
	}
}

// jitter spreads what many hosts do after the same event: half of d to d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// session reports for as long as one session lives.
func (r *reporter) session(ctx context.Context, events <-chan struct{}, good func()) error {
	s, err := r.deps.Store.Session(ctx, r.cfg.SessionTTL)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // its nodes go, at once or after SessionTTL
	r.said, r.beside, r.trust = tree.Host{}, nil, nil
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
	samples := sampler{Agent: r.Agent}
	var beside <-chan struct{}
	if r.deps.Beside != nil {
		beside = r.deps.Beside.Changed()
	}
	for {
		host, wait, due := r.due(time.Now())
		if due {
			if _, err := s.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.HostPath(r.cfg.Host), Value: tree.Encode(host)}}}); err != nil {
				return err
			}
			r.said, r.saidAt = host, time.Now()
			r.metrics.reports.Inc()
			good()
			wait = every
		}
		r.putTrust(ctx, s)
		if err := r.putBeside(ctx, s); err != nil {
			return err
		}
		poll.Reset(min(wait, every))
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
			samples.report(ctx, s, time.Now())
		}
	}
}

// putTrust says whom the host believes, if that changed. What does not work is tried again
// with the next report: the host counts as live all the same.
func (r *reporter) putTrust(ctx context.Context, s store.Session) {
	now := tree.Encode(r.trusted())
	if bytes.Equal(now, r.trust) {
		return
	}
	if _, err := s.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.TrustPath(r.cfg.Dataset, r.cfg.Host), Value: now}}}); err != nil {
		r.deps.Log.Debug("whom the host believes is not reported, trying again", "host", r.cfg.Host, "error", err)
		return
	}
	r.trust = now
}

// putBeside puts what lives beside the host's node, if it changed.
func (r *reporter) putBeside(ctx context.Context, s store.Session) error {
	if r.deps.Beside == nil {
		return nil
	}
	nodes := r.deps.Beside.Nodes()
	var ops []store.Op
	for i, op := range nodes {
		if r.beside == nil || !bytes.Equal(op.Value, r.beside[i].Value) {
			ops = append(ops, op)
		}
	}
	if len(ops) == 0 {
		return nil
	}
	if _, err := s.Commit(ctx, store.Txn{Do: ops}); err != nil {
		return err
	}
	r.beside = nodes
	return nil
}

// due reads what is to be reported, and tells whether it is time, or after how long it is to be
// looked at again. That the content changed shows in the digest, which leaves the freshness
// record out.
func (r *reporter) due(now time.Time) (host tree.Host, wait time.Duration, due bool) {
	s := r.Status()
	host = tree.Host{Name: r.cfg.Host, DNS: r.cfg.DNS, HTTP: r.cfg.HTTP, Labels: r.cfg.Labels, Datasets: map[string]tree.HostDataset{}}
	host.Refused = s.Refused
	if s.Trouble != "" {
		host.Refused = "journal: " + s.Trouble
	}
	if all := r.DirectTroubles(); len(all) > 0 && host.Refused == "" {
		host.Refused = "direct: " + strings.Join(all, "; ")
	}
	host.Refused = host.Refused[:min(len(host.Refused), maxText)]
	host.Alarms = r.Alarms()
	serving, err := r.readServing()
	switch {
	case err == nil:
		r.serving = serving
		r.metrics.serving.Set(float64(serving.Version))
	case errors.Is(err, fs.ErrNotExist):
		// An authority that starts removes the file: it answers nothing yet.
		r.serving = tree.HostDataset{}
		r.metrics.serving.Set(0)
	default:
		r.deps.Log.Debug("what the authority answers cannot be read", "error", err)
	}
	if r.serving.Version > 0 {
		host.Datasets[r.cfg.Dataset] = r.serving
	}
	old, known := r.said.Datasets[r.cfg.Dataset]
	switch {
	case r.said.Name == "", host.Refused != r.said.Refused, !slices.Equal(host.Alarms, r.said.Alarms), known != (r.serving.Version > 0), r.serving.Digest != old.Digest, !slices.Equal(r.serving.Direct, old.Direct), !sameTrial(r.serving.Trial, old.Trial):
		return host, 0, true
	case r.serving.Version == old.Version && r.serving.Since == old.Since && (r.serving.Trial == nil || *r.serving.Trial == *old.Trial):
		return host, watchedEvery, false
	}
	wait = r.saidAt.Add(r.cfg.ReportEvery).Sub(now)
	return host, wait, wait <= 0
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
