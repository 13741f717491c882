package configurator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/rules/script"
)

const (
	// rulesDir is the folder of the repository with the rules of users.
	rulesDir = script.Folder
	// rulesPath and rulesType are of the configuration that has its files.
	rulesPath = script.Path
	rulesType = "zonecast.Rules"
	maxRules  = 8 << 20 // octets of all files of rules
)

// compiled is a tree of the repository compiled whole. It is never changed.
type compiled struct {
	files   *repo.Tree
	result  *compile.Result
	configs []compile.Config // of result, and the rules; by path
	records int
}

// compile compiles a tree, as far as that was not done before. The error is a
// *review.SourceError when the tree is wrong.
func (t *term) compile(ctx context.Context, files *repo.Tree) (*compiled, error) {
	near := t.nearest(files)
	if near != nil && near.files.Hash() == files.Hash() {
		return near, nil
	}
	began := time.Now()
	defer func() { t.metrics.compile.Observe(time.Since(began).Seconds()) }()
	c := &compiled{files: files}
	var before *compile.Result
	var changed []string
	if near != nil {
		before, changed = near.result, near.files.Changed(files)
	}
	var err error
	if files.Files() == 0 { // no child is started for nothing
		c.result = &compile.Result{}
	} else if c.result, err = t.compiler.Compile(ctx, programs{files}, before, slices.DeleteFunc(slices.Clone(changed), isRule)); err != nil {
		return nil, mistake(err)
	}
	c.configs = slices.Clone(c.result.Configs)
	if near == nil || slices.ContainsFunc(changed, isRule) {
		err = t.addRules(c)
	} else if i, found := find(near.configs, rulesPath); found {
		err = c.add(near.configs[i])
	}
	if err != nil {
		return nil, err
	}
	for _, x := range c.configs {
		for _, k := range x.Claims {
			c.records += len(k.Data)
		}
	}
	t.trees.Lock()
	defer t.trees.Unlock()
	if len(t.compiled) == maxTrees {
		t.compiled = slices.Delete(t.compiled, 0, 1)
	}
	t.compiled = append(t.compiled, c)
	return c, nil
}

// nearest gives the tree that is compiled already, or another that was compiled lately.
func (t *term) nearest(files *repo.Tree) *compiled {
	t.trees.Lock()
	defer t.trees.Unlock()
	for i, c := range slices.Backward(t.compiled) {
		if c.files.Hash() == files.Hash() {
			t.compiled = append(slices.Delete(t.compiled, i, i+1), c)
			return c
		}
	}
	if len(t.compiled) == 0 {
		return nil
	}
	return t.compiled[len(t.compiled)-1]
}

// mistake tells what is wrong with a tree from what went wrong with compiling it.
func mistake(err error) error {
	var errs compile.Errors
	var bad *review.SourceError
	if errors.As(err, &errs) && !errors.As(err, &bad) {
		return &review.SourceError{Err: err}
	}
	return err
}

func find(configs []compile.Config, p string) (int, bool) {
	return slices.BinarySearchFunc(configs, p, func(c compile.Config, p string) int { return strings.Compare(c.Path, p) })
}

func (c *compiled) add(x compile.Config) error {
	i, found := find(c.configs, x.Path)
	if found {
		return &review.SourceError{Err: fmt.Errorf("%s: exports the configuration %s, which is that of the rules in %s/", strings.Join(c.configs[i].Sources, ", "), x.Path, rulesDir)}
	}
	c.configs = slices.Insert(c.configs, i, x)
	return nil
}

// addRules adds the configuration that has the rules' files, once they all load.
func (t *term) addRules(c *compiled) error {
	texts, err := ruleFiles(c.files)
	if err != nil || len(texts) == 0 {
		return err
	}
	folder, err := fs.Sub(c.files, rulesDir)
	if err != nil {
		return err
	}
	t.rulesTurn.Lock()
	loaded, err := t.rules.Load(folder)
	t.rulesTurn.Unlock()
	if err != nil {
		return &review.SourceError{Err: fmt.Errorf("%s/: %w", rulesDir, err)}
	}
	var errs []error
	for _, l := range loaded {
		if l.Err != nil {
			errs = append(errs, fmt.Errorf("%s/%w", rulesDir, l.Err))
		}
	}
	if len(errs) > 0 {
		return &review.SourceError{Err: errors.Join(errs...)}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(map[string]any{"files": texts}); err != nil {
		return err
	}
	x := compile.Config{Path: rulesPath, Type: rulesType, JSON: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}
	for name := range texts {
		x.Sources = append(x.Sources, path.Join(rulesDir, name))
	}
	slices.Sort(x.Sources)
	return c.add(x)
}

// isRule tells whether a file is for rules; what is in their folder is no program of the
// configuration.
func isRule(name string) bool { return strings.HasPrefix(name, rulesDir+"/") }

// ruleFiles gives the texts of the files that rules are made of, by name below rulesDir.
func ruleFiles(files *repo.Tree) (map[string]string, error) {
	texts := map[string]string{}
	size := 0
	err := fs.WalkDir(files, rulesDir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == rulesDir {
			return fs.SkipAll
		}
		short := strings.TrimPrefix(name, rulesDir+"/")
		if err != nil || d.IsDir() || strings.HasSuffix(name, "_test.star") || path.Ext(name) != ".star" && short != script.ParamsFile {
			return err
		}
		b, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if size += len(b); size > maxRules {
			return &review.SourceError{Err: fmt.Errorf("%s/: more than %d octets of rules", rulesDir, maxRules)}
		}
		texts[short] = string(b)
		return nil
	})
	return texts, err
}

// programs is a tree without the rules.
type programs struct{ *repo.Tree }

// ReadDir implements fs.ReadDirFS.
func (p programs) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := p.Tree.ReadDir(name)
	if name == "." {
		entries = slices.DeleteFunc(slices.Clone(entries), func(e fs.DirEntry) bool { return e.Name() == rulesDir && e.IsDir() })
	}
	return entries, err
}
