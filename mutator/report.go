package mutator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/store"
)

const (
	// maxFailures is how many failures of a rule are written one by one: a rule that fails
	// for all must not write as much as it would claim.
	maxFailures = 1000
	// maxLogged is how many new ones of a rule are logged from one report to the next, which
	// says how many they are.
	maxLogged = 5
	// maxError is octets of the text of an error; a node has room for a transaction of them.
	maxError = 2000
)

// note keeps the books of rules that fail.
func (r *term) note(k key, err error) {
	old := r.errs[k]
	if err == nil {
		if old != nil {
			delete(r.errs, k)
			r.errsNew = true
		}
		return
	}
	r.metrics.errors.Inc()
	if r.logged[k.rule] < maxLogged && old == nil { // once: a role that is too large meets it with each server
		r.logged[k.rule]++
		r.deps.Log.Error("rule failed, or left something out", "source", r.state.rules[k.rule].Source, "error", err)
	}
	if old == nil || old.Error() != err.Error() {
		r.errsNew = true
	}
	r.errs[k] = err
}

// again tries what failed for a reason that may be gone by now.
func (r *term) again(ctx context.Context) error {
	if !r.heard {
		return nil
	}
	any := false
	for k, err := range r.errs {
		if errors.Is(err, script.ErrLater) {
			r.state.dirty[k], any = true, true
		}
	}
	if !r.state.askAgain() && !any {
		return nil
	}
	return r.flush(ctx, r.said.Servers)
}

// askAgain asks rules again for the shards of servers of which they could not say them for a
// reason that may be gone by now. It tells whether there were some.
func (s *state) askAgain() (some bool) {
	for i := range s.rules {
		r := &s.rules[i]
		var servers []fleet.Server
		var paths []string
		for path, err := range r.failed {
			if errors.Is(err, script.ErrLater) {
				servers, paths = append(servers, s.servers[path].Server), append(paths, path)
			}
		}
		if a, is := r.Rule.(aheader); is && len(servers) >= manyServers {
			a.Ahead(servers)
		}
		for k, path := range paths {
			s.join(path, i, servers[k])
		}
		some = some || len(paths) > 0
	}
	return some
}

// failure is where a rule fails: in a shard, or, when that is "", for a server of which it
// does not say the shards.
type failure struct {
	shard, server string
	err           error
}

// failuresOf are those of a rule, in order.
func (r *term) failuresOf(i int) (all []failure) {
	for k, err := range r.errs {
		if k.rule != i {
			continue
		}
		f := failure{shard: k.shard, err: err}
		if m, some := r.state.members[k]; some && len(m.rest) == 0 {
			if id := r.state.servers[m.first].ID(); k.shard == id || k.shard == "s."+id { // of a built-in rule, of a user's
				f.server = id
			}
		}
		all = append(all, f)
	}
	for path, err := range r.state.rules[i].failed {
		all = append(all, failure{server: r.state.servers[path].ID(), err: err})
	}
	slices.SortFunc(all, func(a, b failure) int { return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.server, b.server)) })
	return all
}

// wrong is what a rule's source says of it: why its newest state is not in force, else one
// of the errors, always the same of many, and how many there are beside it.
func wrong(rule *ruleState, all []failure) string {
	if rule.Broken != nil {
		return rule.Broken.Error()
	}
	if len(all) == 0 {
		return ""
	}
	text := slices.MinFunc(all, func(a, b failure) int { return cmp.Compare(a.err.Error(), b.err.Error()) }).err.Error()
	if n := len(all) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}

// loadReports reads what was reported before, so that it is known since when a rule fails.
func (r *term) loadReports(ctx context.Context) error {
	kind := record.KindRule + "/"
	nodes, _, err := r.deps.Store.List(ctx, tree.Sources+kind)
	if err != nil {
		return fmt.Errorf("list sources of rules: %w", err)
	}
	for _, n := range nodes {
		var s tree.Source
		if tree.Decode(n, &s) == nil { // else it is written anew
			r.sources[s.Source] = s
		}
	}
	if nodes, _, err = r.deps.Store.List(ctx, tree.Failures+kind); err != nil {
		return fmt.Errorf("list failures of rules: %w", err)
	}
	for _, n := range nodes {
		var f tree.Failure
		if tree.Decode(n, &f) != nil {
			f = tree.Failure{}
		}
		r.failures[n.Path] = f
	}
	r.errsNew = true
	return nil
}

// reports gives what is to be said now of the rules' sources, and of where they fail.
func (r *term) reports() (sources map[record.Source]tree.Source, failures map[string]tree.Failure) {
	sources, failures = map[record.Source]tree.Source{}, map[string]tree.Failure{}
	now := time.Now().UnixMilli()
	counts := r.state.claims()
	for i := range r.state.rules {
		rule := &r.state.rules[i]
		if rule.Rule == nil && rule.Broken == nil && counts[i] == 0 {
			r.metrics.failing.DeleteLabelValues(string(rule.Source))
			continue
		}
		all := r.failuresOf(i)
		fails := len(all)
		if rule.Broken != nil {
			fails = max(fails, 1)
		}
		r.metrics.failing.WithLabelValues(string(rule.Source)).Set(float64(fails))
		for _, f := range all[:min(len(all), maxFailures)] {
			path := tree.FailurePath(rule.Source, f.shard, f.server)
			text := f.err.Error()
			if len(text) > maxError {
				text = strings.ToValidUTF8(text[:maxError], "") + "…"
			}
			failures[path] = tree.Failure{Shard: f.shard, Server: f.server, Error: text, Since: cmp.Or(r.failures[path].Since, now)}
		}
		old := r.sources[rule.Source]
		s := tree.Source{
			Source: rule.Source, Where: rule.Where, Revision: rule.Digest, Records: counts[i], Time: old.Time,
			Error: wrong(rule, all), Failing: len(all),
		}
		if s.Error != "" {
			s.Since = now
			if old.Error != "" {
				s.Since = cmp.Or(old.Since, old.Time)
			}
		}
		if s != old {
			s.Time = now
		}
		if s.Failing > old.Failing {
			r.deps.Log.Error("rule fails, the last good claims stay", "source", rule.Source, "failing", s.Failing, "error", s.Error)
		}
		sources[rule.Source] = s
	}
	if r.state.unsure != nil { // perhaps there is a rule of it
		for source, s := range r.sources {
			if _, said := sources[source]; !said {
				sources[source] = s
			}
		}
	}
	return sources, failures
}

// report writes what has changed of what is said about the rules.
func (r *term) report(ctx context.Context) error {
	if !r.heard {
		return nil
	}
	sources, failures := r.reports()
	var ops []store.Op
	for source, s := range sources {
		if s != r.sources[source] {
			ops = append(ops, store.Op{Path: tree.SourcePath(source), Value: tree.Encode(s)})
		}
	}
	for source := range r.sources {
		if _, stays := sources[source]; !stays {
			ops = append(ops, store.Op{Path: tree.SourcePath(source), Delete: true})
		}
	}
	for path, f := range failures {
		if f != r.failures[path] {
			ops = append(ops, store.Op{Path: path, Value: tree.Encode(f)})
		}
	}
	for path := range r.failures {
		if _, stays := failures[path]; !stays {
			ops = append(ops, store.Op{Path: path, Delete: true})
		}
	}
	slices.SortFunc(ops, func(a, b store.Op) int { return cmp.Compare(a.Path, b.Path) })
	for some := range slices.Chunk(ops, txnOps) {
		if _, err := r.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{r.fence}, Do: some}); err != nil {
			if errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("write sources: %w", err)
			}
			r.deps.Log.Warn("states of rules cannot be written", "error", err)
			return nil
		}
	}
	r.sources, r.failures = sources, failures
	r.errsNew, r.state.failedNew = false, false
	clear(r.logged)
	return nil
}
