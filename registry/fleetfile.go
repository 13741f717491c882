package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// FleetFileConfig says which file is followed, and how.
type FleetFileConfig struct {
	// Path is the file.
	Path string
	// Rescan is how often the file is read without being told that it changed, and
	// servers that differ from it are put right. Zero means 30s.
	Rescan time.Duration `option:"rescan" help:"how often the fleet file is read anyway"`
	// Settle is how long the file must be left alone after a change before it is
	// read, so that a file written in place is not read half. Zero means 100ms.
	Settle time.Duration `option:"settle" help:"how long the fleet file must be left alone before it is read"`
	// SessionTTL is how long after the death of the process that follows the file
	// another one with the same file takes over. Zero means 10s.
	SessionTTL time.Duration `option:"session-ttl" help:"how long leadership outlives its process"`
}

// DefaultFleetFileConfig needs Path yet.
func DefaultFleetFileConfig() FleetFileConfig {
	return FleetFileConfig{Rescan: 30 * time.Second, Settle: 100 * time.Millisecond, SessionTTL: 10 * time.Second}
}

// maxFleetFile bounds the file in octets: fleet.MaxServers at 250 octets.
const maxFleetFile = 512 << 20

// FleetFile keeps the servers of one file registered: those in it with origin
// "fleet:<base name>", those no longer in it gone. The file is all or nothing: one
// broken line, a file that is missing, and a file without servers that does not
// say so on purpose (see fleet.ParseFleetFile) leave everything as it is. A server
// registered by call is never touched: if the file says something else about it,
// that is a warning.
//
// Its state is at tree.SourcePath("update/fleet-<base name>"); it makes no claims of
// its own, so that nothing is below tree.Claims for that source.
type FleetFile struct {
	cfg     FleetFileConfig
	deps    Deps
	commits committer
	name    string // base name
	ready   sync.Once
	first   chan struct{} // closed when the file was looked at once
}

// Ready is closed when this process has once registered what the file has, or found
// out that it cannot.
func (f *FleetFile) Ready() <-chan struct{} { return f.first }

// NewFleetFile makes a follower of a file, which need not exist yet.
func NewFleetFile(cfg FleetFileConfig, deps Deps) (*FleetFile, error) {
	zero := DefaultFleetFileConfig()
	for _, d := range []struct {
		value *time.Duration
		zero  time.Duration
		key   string
	}{
		{&cfg.Rescan, zero.Rescan, "rescan"},
		{&cfg.Settle, zero.Settle, "settle"},
		{&cfg.SessionTTL, zero.SessionTTL, "session-ttl"},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("fleet file: %s is %s, expected more than 0", d.key, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil || cfg.Path == "" {
		return nil, fmt.Errorf("fleet file: path is %q, expected that of a file", cfg.Path)
	}
	cfg.Path = path
	f := &FleetFile{cfg: cfg, deps: deps, commits: committer{st: deps.Store}, name: filepath.Base(path), first: make(chan struct{})}
	if err := f.source().Check(); err != nil || len(f.name) > fleet.MaxElement {
		return nil, fmt.Errorf("fleet file: the name %q is also that of its source in the store, expected at most %d octets of printable ASCII without spaces", f.name, fleet.MaxElement)
	}
	return f, nil
}

func (f *FleetFile) source() record.Source {
	return record.Source(record.KindUpdate + "/fleet-" + f.name)
}

func (f *FleetFile) origin() string { return fleet.OriginFile + f.name }

// Run follows the file while this process is the one elected to, until ctx ends.
func (f *FleetFile) Run(ctx context.Context) error {
	lead.Run(ctx, lead.Election{Store: f.deps.Store, Path: tree.ElectFleetFile + "/" + f.name, TTL: f.cfg.SessionTTL, Log: f.deps.Log}, f.follow)
	return nil
}

// follow reads the file now, when it changes, and every Rescan.
func (f *FleetFile) follow(ctx context.Context, fence store.Cond) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.cfg.Path, err)
	}
	defer watcher.Close()
	// The folder, not the file: an atomic replacement is another file.
	if err := watcher.Add(filepath.Dir(f.cfg.Path)); err != nil {
		f.deps.Log.Warn("fleet file cannot be watched, it is read at intervals only", "file", f.cfg.Path, "every", f.cfg.Rescan, "error", err)
	}
	var last Synced
	rescan := time.NewTicker(f.cfg.Rescan)
	defer rescan.Stop()
	settle := time.NewTimer(f.cfg.Settle)
	settle.Reset(0) // read it now
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-watcher.Events:
			if filepath.Base(e.Name) == f.name && !e.Has(fsnotify.Chmod) {
				settle.Reset(f.cfg.Settle)
			}
			continue
		case err := <-watcher.Errors:
			f.deps.Log.Warn("fleet file: watch", "file", f.cfg.Path, "error", err)
			settle.Reset(f.cfg.Settle)
			continue
		case <-settle.C:
		case <-rescan.C:
		}
		if wait := f.young(); wait > 0 { // also at a rescan: half a file would take servers away
			settle.Reset(wait)
			continue
		}
		now := f.Sync(ctx, fence)
		if text := now.Problem(); text != last.Problem() && text != "" {
			f.deps.Log.Error("fleet file is not in force, the last good state stays", "file", f.cfg.Path, "error", text)
		}
		last = now
		if now.again {
			if err := lead.Check(ctx, f.deps.Store, fence); errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("follow %s: %w", f.cfg.Path, err)
			}
			settle.Reset(time.Second)
			continue
		}
		f.ready.Do(func() { close(f.first) })
	}
}

// young is how long the file must be left alone yet before it is read. A time in the
// future counts as long ago, since another machine's clock may have set it.
func (f *FleetFile) young() time.Duration {
	info, err := os.Stat(f.cfg.Path)
	if err != nil {
		return 0 // reading it says why
	}
	if age := time.Since(info.ModTime()); age >= 0 && age < f.cfg.Settle {
		return f.cfg.Settle - age
	}
	return 0
}

// Synced is what one look at the file did.
type Synced struct {
	Changed  int      // servers registered or deregistered
	Refused  []string // why some were not, and which differ from a registration by call
	Err      error    // why nothing was done
	Servers  int      // in the file
	Revision store.Revision
	again    bool // the store was at fault: soon is better than at the next rescan
}

// Problem is all that is wrong, for tree.Source; "" when all is well.
func (s Synced) Problem() string {
	if s.Err != nil {
		return s.Err.Error()
	}
	switch n := len(s.Refused); {
	case n == 0:
		return ""
	case n == 1:
		return s.Refused[0]
	default:
		return fmt.Sprintf("%s (and %d more servers)", s.Refused[0], n-1)
	}
}

// Sync makes the registry what the file says, once. fence must hold throughout; the
// zero Cond is no fence.
func (f *FleetFile) Sync(ctx context.Context, fence store.Cond) Synced {
	servers, sum, err := f.read()
	if err != nil {
		done := Synced{Err: err}
		f.report(ctx, done, "")
		return done
	}
	nodes, _, err := f.deps.Store.List(ctx, tree.Servers)
	if err != nil {
		return Synced{Err: fmt.Errorf("list servers: %w", err), Servers: len(servers), again: true}
	}
	have := make(map[string]fleet.Server, len(nodes))
	for _, n := range nodes {
		if s, err := fleet.Decode(n.Value); err == nil { // a broken node is reported where it is served
			have[s.ID()] = s
		}
	}
	done := Synced{Servers: len(servers)}
	wishes, foreign := f.diff(servers, have)
	done.Refused = foreign
	commits := f.commits
	if fence != (store.Cond{}) {
		commits.always = []store.Cond{fence}
	}
	for _, res := range commits.do(ctx, wishes) {
		if res.refused != nil {
			done.Refused = append(done.Refused, res.refused.Message)
			done.again = done.again || res.refused.Code == api.Unavailable || res.refused.Code == api.Timeout
			continue
		}
		if res.change.Changed {
			done.Changed++
		}
		done.Revision = max(done.Revision, store.Revision(res.change.Revision))
	}
	if done.Changed > 0 {
		f.deps.Log.Info("fleet file taken", "file", f.cfg.Path, "servers", done.Servers, "changed", done.Changed, "refused", len(done.Refused), "revision", int64(done.Revision))
	}
	f.report(ctx, done, sum)
	return done
}

// diff gives what is to be done, and what must not be.
func (f *FleetFile) diff(servers []fleet.Server, have map[string]fleet.Server) (wishes []wish, foreign []string) {
	mine := func(s *fleet.Server) bool { return s == nil || s.Origin == f.origin() }
	only := func(s *fleet.Server) *answer.Refused {
		if mine(s) {
			return nil
		}
		return &answer.Refused{Message: fmt.Sprintf("server %s was registered by %s meanwhile and stays as it is", s.ID(), s.Origin)}
	}
	now := time.Now().UnixMilli()
	in := make(map[string]bool, len(servers))
	for _, s := range servers {
		in[s.ID()] = true
		if h, ok := have[s.ID()]; ok {
			if h.Same(s) {
				continue
			}
			if !mine(&h) {
				if h.Origin = s.Origin; !h.Same(s) {
					foreign = append(foreign, fmt.Sprintf("server %s was registered by %s and stays as it is, the file says something else", s.ID(), have[s.ID()].Origin))
				}
				continue
			}
		}
		s.Time = now
		wishes = append(wishes, wish{id: s.ID(), want: &s, only: only})
	}
	for _, id := range slices.Sorted(maps.Keys(have)) {
		if h := have[id]; mine(&h) && !in[id] {
			wishes = append(wishes, wish{id: id, only: only})
		}
	}
	return wishes, foreign
}

// read reads and parses the file; sum names its content.
func (f *FleetFile) read() (servers []fleet.Server, sum string, err error) {
	file, err := os.Open(f.cfg.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("%s: the file is missing; its servers stay registered", f.cfg.Path)
	}
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFleetFile+1))
	if err != nil {
		return nil, "", err
	}
	if len(b) > maxFleetFile {
		return nil, "", fmt.Errorf("%s: more than %d octets", f.cfg.Path, maxFleetFile)
	}
	servers, err = fleet.ParseFleetFile(bytes.NewReader(b), f.name)
	h := sha256.Sum256(b)
	return servers, hex.EncodeToString(h[:8]), err
}

// report writes the state of the source when it is not what is there already.
func (f *FleetFile) report(ctx context.Context, done Synced, sum string) {
	path := tree.SourcePath(f.source())
	var old tree.Source
	node, err := f.deps.Store.Get(ctx, path)
	if err == nil {
		err = tree.Decode(node, &old)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		f.deps.Log.Warn("fleet file: read its state", "path", path, "error", err)
	}
	state := tree.Source{Source: f.source(), Where: f.cfg.Path, Revision: sum, Records: done.Servers, Error: done.Problem()}
	if done.Err != nil { // what is in force is the last good one
		state.Revision, state.Records = old.Revision, old.Records
	}
	state.Time = old.Time
	if state == old {
		return
	}
	state.Time = time.Now().UnixMilli()
	if _, err := f.deps.Store.Commit(ctx, store.Txn{Do: []store.Op{{Path: path, Value: tree.Encode(state)}}}); err != nil {
		f.deps.Log.Warn("fleet file: write its state", "path", path, "error", err)
	}
}
