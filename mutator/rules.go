package mutator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/store"
)

// landed is what is known of the rules that people landed.
type landed struct {
	fold  *configtree.Fold
	files fs.FS // nil: none
	sum   string
	err   error // why they cannot be read
}

// openLanded reads the rules that landed before the first server is looked at: or theirs
// would be taken for gone. It gives the revision of what was read.
func (r *term) openLanded(ctx context.Context) (store.Revision, error) {
	r.landed.fold = configtree.NewFold(func(path string) bool { return path == script.Path })
	nodes, rev, err := r.deps.Store.List(ctx, tree.Config)
	if err != nil {
		return 0, fmt.Errorf("list configurations: %w", err)
	}
	return rev, r.takeLanded(ctx, store.Batch{Revision: rev, Reset: true, Puts: nodes})
}

// takeLanded follows the configuration that has the rules. An error is one of the store.
func (r *term) takeLanded(ctx context.Context, b store.Batch) error {
	l := &r.landed
	l.fold.Apply(b)
	if err := l.fold.Unreadable()[script.Path]; err != nil {
		l.err = err
		return nil
	}
	e := l.fold.Get(script.Path)
	if e == nil {
		l.files, l.sum, l.err = nil, "", l.fold.Unread()
		return nil
	}
	if e.SHA256 == l.sum && l.err == nil {
		return nil
	}
	value, err := e.Fetch(ctx, r.deps.Store)
	if errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	var files fs.FS
	if err == nil {
		files, err = script.Landed(value)
	}
	if err != nil {
		l.err = err
		return nil
	}
	l.files, l.sum, l.err = files, e.SHA256, nil
	return nil
}

// theirs gives the files of the rules of users, where they are, what they are by now, and
// nil when there are none. A directory takes the place of what landed: whoever gives it to a
// process means that process, and it is at hand where nothing can be landed. That is said.
func (r *term) theirs() (files fs.FS, where, print string, err error) {
	if r.cfg.RulesDir != "" {
		if also := r.landed.files != nil || r.landed.err != nil; also != r.overruled {
			if r.overruled = also; also {
				r.metrics.errors.Inc()
				r.deps.Log.Error("rules landed and are not taken, those of the directory are; start without --mutator-rules-dir, or land without rules/", "dir", r.cfg.RulesDir)
			}
		}
		files = os.DirFS(r.cfg.RulesDir)
		if print, err = script.Fingerprint(files); err != nil {
			print = err.Error()
		}
		return files, r.cfg.RulesDir, print, err
	}
	if r.landed.err != nil {
		return nil, script.Folder, r.landed.err.Error(), r.landed.err
	}
	return r.landed.files, script.Folder, r.landed.sum, nil
}

// readRules takes over the rules of users when they have changed. What is wrong with one
// concerns that one: its last good state goes on, and so do the others.
func (r *term) readRules() (changed bool) {
	files, where, print, err := r.theirs()
	if print == r.looked {
		return false
	}
	r.looked = print
	var loaded []script.Loaded
	if err == nil && files != nil {
		loaded, err = r.host.Load(files)
	}
	if err != nil {
		r.metrics.errors.Inc()
		r.deps.Log.Error("rules cannot be read, the last good ones stay in force", "dir", where, "error", err)
		r.state.distrust(fmt.Errorf("%s: %w", where, err))
		return true
	}
	now := slices.Clone(r.builtIn)
	for _, l := range loaded {
		next := Ruled{Source: l.Source, Where: path.Join(where, l.File), Broken: l.Err}
		if r.cfg.RulesDir == "" {
			next.Folder = where
			if l.Err != nil {
				next.Broken = fmt.Errorf("%s/%w", where, l.Err)
			}
		}
		switch {
		case l.Source == freshSource:
			r.deps.Log.Error("rule is not taken: the name is zonecast's own", "file", l.File)
			continue
		case l.Err != nil:
			r.metrics.errors.Inc()
			r.deps.Log.Error("rule is refused, its last good state stays in force", "file", l.File, "error", l.Err)
		default:
			next.Rule, next.Digest = l.Rule, l.Rule.Digest()
			r.deps.Log.Info("rule taken", "file", l.File, "source", l.Source, "digest", next.Digest)
		}
		if i := slices.IndexFunc(now, func(o Ruled) bool { return o.Source == l.Source }); i >= 0 {
			now[i] = next
		} else {
			now = append(now, next)
		}
	}
	r.state.setRules(now)
	return true
}
