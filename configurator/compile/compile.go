package compile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zonecast/zonecast/internal/sandbox"
	"github.com/zonecast/zonecast/record"
)

// Config is one exported value.
type Config struct {
	Path    string         // below /config/: the file's without .star, or that and "/" and a name
	Type    string         // of the IDL: file.Type
	JSON    []byte         // canonical, see idl.AppendJSON
	Sources []string       // files of the tree that it came from, sorted
	Claims  []record.Claim // of source config/<Path>, in canonical order, without provenance; Place is file:line
}

// Result is a tree compiled whole. It is not changed.
type Result struct {
	Configs []Config  // by Path
	Printed []Printed // by programs, in the order of their files

	by *Compiler
	id uint64 // of the tree in the child
}

// Options are the bounds of a Compiler. The zero value is DefaultOptions.
type Options struct {
	// Steps bounds loops. Zero means 100 million: a quarter of a second or more.
	Steps uint64 `option:"steps" help:"steps that each program, each validator with one configuration and each test may take"`
	// Memory counts also the trees that are kept for the next compilation. Zero means
	// 1 GiB; 10,000 zones of a dozen records take a third of it.
	Memory int64 `option:"memory" help:"octets of memory that a compilation may have"`
	// Time is wall time. Zero means 2 minutes.
	Time time.Duration `option:"time" help:"how long a compilation may take"`
	// Workers is how many programs run at the same time. Zero means one for each
	// processor.
	Workers int `option:"workers" help:"programs that run at the same time; 0 means one for each processor"`
}

// DefaultOptions are the bounds that are meant by zero.
func DefaultOptions() Options {
	return Options{Steps: 100_000_000, Memory: 1 << 30, Time: 2 * time.Minute}
}

// Compiler compiles trees. It has a child process, which it starts when it needs it and
// again when it died. It is safe for concurrent use: one compilation runs at a time.
type Compiler struct {
	options Options
	turn    chan struct{} // held by who compiles; guards below
	child   *sandbox.Child
	last    uint64 // id of the newest tree
	closed  bool
}

// New makes a Compiler. The process must call sandbox.Main with SandboxHandler.
func New(o Options) *Compiler {
	d := DefaultOptions()
	if o.Steps == 0 {
		o.Steps = d.Steps
	}
	if o.Memory == 0 {
		o.Memory = d.Memory
	}
	if o.Time == 0 {
		o.Time = d.Time
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return &Compiler{options: o, turn: make(chan struct{}, 1)}
}

// Close ends the child.
func (c *Compiler) Close() error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	c.closed = true
	if c.child == nil {
		return nil
	}
	err := c.child.Close()
	c.child = nil
	return err
}

// Compile compiles the files of sources; before, if not nil, is the result for a tree
// that differs in changed only, and then only those files are read, as long as the child
// still has that tree. Names in sources that begin with a dot are left out, and so is
// what is no source by its name. The error is Errors when the tree is wrong.
func (c *Compiler) Compile(ctx context.Context, sources fs.FS, before *Result, changed []string) (*Result, error) {
	r, _, err := c.run(ctx, opCompile, sources, before, changed)
	return r, err
}

// Test compiles a tree and runs its tests. An error means that the tree does not compile.
func (c *Compiler) Test(ctx context.Context, sources fs.FS) ([]TestResult, error) {
	_, tests, err := c.run(ctx, opTest, sources, nil, nil)
	return tests, err
}

func (c *Compiler) run(ctx context.Context, op byte, sources fs.FS, before *Result, changed []string) (*Result, []TestResult, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if c.closed {
		return nil, nil, errors.New("compile: compiler is closed")
	}
	r := request{op: op, steps: c.options.Steps, workers: c.options.Workers}
	if before != nil && before.by == c {
		changes, err := readChanged(sources, changed)
		if err != nil {
			return nil, nil, err
		}
		r.base, r.changes = before.id, changes
		a, err := c.ask(ctx, &r)
		if err == nil && a.status != statusUnknownBase {
			return c.result(r.id, before.Configs, a)
		}
		// The trees that the child keeps count as well: a fresh one may have enough.
		if err != nil && !errors.Is(err, sandbox.ErrMemory) {
			return nil, nil, err
		}
		r.base = 0
	}
	var err error
	if r.changes, err = readAll(sources); err != nil {
		return nil, nil, err
	}
	a, err := c.ask(ctx, &r)
	if errors.Is(err, sandbox.ErrMemory) && r.workers > 1 {
		// Which file it was is certain when there is one at a time.
		r.workers = 1
		a, err = c.ask(ctx, &r)
	}
	if err != nil {
		return nil, nil, err
	}
	return c.result(r.id, nil, a)
}

// busyError is what the child was doing when it died of a limit.
type busyError struct {
	Errors
	limit error
}

// Unwrap gives both.
func (e *busyError) Unwrap() []error { return []error{e.Errors, e.limit} }

// ask asks the child for a tree, which gets a new id.
func (c *Compiler) ask(ctx context.Context, r *request) (answer, error) {
	if c.child == nil || c.child.Dead() != nil {
		child, err := sandbox.Start(SandboxName, sandbox.Limits{Memory: c.options.Memory, Time: c.options.Time, Answer: maxAnswer})
		if err != nil {
			return answer{}, err
		}
		c.child = child
	}
	c.last++
	r.id = c.last
	type work struct{ file, doing string }
	busy := map[int]work{}
	b, err := c.child.Call(ctx, encodeRequest(*r), func(n []byte) {
		d := decoder{b: n}
		if worker, w := d.number(), (work{d.text(), d.text()}); d.end() == nil && worker < 1024 {
			busy[worker] = w
		}
	})
	if err == nil {
		return decodeAnswer(b)
	}
	var msg string
	switch {
	case errors.Is(err, sandbox.ErrMemory):
		msg = fmt.Sprintf("needs more than the %d MiB of memory that a compilation may have", c.options.Memory>>20)
	case errors.Is(err, sandbox.ErrTime):
		msg = fmt.Sprintf("the compilation takes more than the %v that it may", c.options.Time)
	case ctx.Err() != nil || len(busy) == 0:
		return answer{}, fmt.Errorf("compile: %w", err)
	default:
		msg = fmt.Sprintf("the compiler died, which is a mistake in zonecast: %v", err)
	}
	e := &busyError{limit: err}
	for _, w := range busy {
		e.Errors = append(e.Errors, &Error{Pos: Pos{File: w.file}, Msg: w.doing + ": " + msg})
	}
	if len(busy) == 0 {
		return answer{}, fmt.Errorf("compile: %w", err)
	}
	e.Errors = e.Errors.sorted()
	return answer{}, e
}

// result puts together what the child answered with the configurations that stay.
func (c *Compiler) result(id uint64, before []Config, a answer) (*Result, []TestResult, error) {
	if a.status == statusErrors {
		return nil, nil, a.errs
	}
	if a.status != statusDone {
		return nil, nil, fmt.Errorf("compile: child answers with status %d to a whole tree", a.status)
	}
	r := &Result{Printed: a.printed, by: c, id: id}
	r.Configs = make([]Config, 0, len(before)+len(a.changed))
	changed, removed := a.changed, a.removed
	for _, old := range before {
		for len(changed) > 0 && changed[0].Path < old.Path {
			r.Configs = append(r.Configs, changed[0])
			changed = changed[1:]
		}
		if len(removed) > 0 && removed[0] == old.Path {
			removed = removed[1:]
			continue
		}
		if len(changed) > 0 && changed[0].Path == old.Path {
			old, changed = changed[0], changed[1:]
		}
		r.Configs = append(r.Configs, old)
	}
	r.Configs = append(r.Configs, changed...)
	if len(removed) > 0 {
		return nil, nil, fmt.Errorf("compile: child says that %s is gone, which was not there", clip(removed[0], 200))
	}
	return r, a.tests, nil
}

// readChanged reads those of the files that are sources and there.
func readChanged(sources fs.FS, files []string) (map[string]change, error) {
	all := map[string]change{}
	for _, file := range files {
		if !isSource(file) {
			continue
		}
		text, err := readFile(sources, file)
		if errors.Is(err, fs.ErrNotExist) {
			all[file] = change{gone: true}
			continue
		}
		if err != nil {
			return nil, err
		}
		all[file] = change{text: text}
	}
	return all, nil
}

// isSource tells whether a file is one by its name, and no part of it begins with a dot.
func isSource(file string) bool {
	_, ok := kindOf(file)
	return ok && fs.ValidPath(file) && !strings.HasPrefix(file, ".") && !strings.Contains(file, "/.")
}

// readAll reads all sources of a tree.
func readAll(sources fs.FS) (map[string]change, error) {
	all := map[string]change{}
	size := 0
	err := fs.WalkDir(sources, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		if !isSource(file) {
			return nil
		}
		text, err := readFile(sources, file)
		if err != nil {
			return err
		}
		all[file] = change{text: text}
		if size += len(text); size > maxTree || len(all) > maxFiles {
			return fmt.Errorf("tree has more than %d sources or %d octets", maxFiles, maxTree)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return all, nil
}

func readFile(sources fs.FS, file string) (string, error) {
	st, err := fs.Lstat(sources, file) // before it is opened: a named pipe would wait for a writer
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", Errors{{Pos: Pos{File: file}, Msg: "source is no regular file"}}
	}
	f, err := sources.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	if len(b) > maxFile {
		return "", Errors{{Pos: Pos{File: file}, Msg: fmt.Sprintf("file has more than %d octets", maxFile)}}
	}
	if !utf8.Valid(b) {
		return "", Errors{{Pos: Pos{File: file}, Msg: "file is not UTF-8"}}
	}
	return string(b), nil
}

// Files are the sources that some configuration of the result came from, sorted.
func (r *Result) Files() []string {
	set := map[string]bool{}
	for _, c := range r.Configs {
		for _, s := range c.Sources {
			set[s] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
