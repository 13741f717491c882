package script

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Bounds of evaluation, in Starlark's steps: a step is one instruction, some 3 ns.
const (
	loadSteps   = 5_000_000
	callSteps   = 1_000_000
	memberSteps = 20_000 // more for each member of a cluster, a group or the fleet
	maxFile     = 1 << 20
	maxGroups   = 64 // of one server
)

// Kinds of shards: the first letter of a shard's name, which is followed by a dot.
const (
	kindServer  = "s"
	kindCluster = "c"
	kindGroup   = "g"
	kindFleet   = "f"
)

// Program is a rule. It is safe for concurrent use.
type Program struct {
	source record.Source
	file   string
	digest string
	server, cluster, group,
	groups, fleet starlark.Callable // nil: not defined
}

// dialect is Starlark as it is: no recursion, no while, nothing at top level is bound twice.
var dialect = &syntax.FileOptions{}

// Compile reads the rule of a file and what it loads: other files beside it. params is what
// the rule sees as params; nil is empty.
func Compile(files fs.FS, file string, params map[string]any) (*Program, error) {
	name, ok := strings.CutSuffix(path.Base(file), ".star")
	source := record.Source(record.KindRule + "/" + name)
	if err := source.Check(); !ok || err != nil {
		return nil, fmt.Errorf("%s: expected a name such as address.star: the rule is named after it", file)
	}
	l, err := newLoader(files, params)
	if err != nil {
		return nil, err
	}
	globals, err := l.load(file)
	if err != nil {
		return nil, err
	}
	p := &Program{source: source, file: file, digest: hex.EncodeToString(l.sum.Sum(nil)[:8])}
	for _, f := range []struct {
		name string
		to   *starlark.Callable
	}{{"server", &p.server}, {"cluster", &p.cluster}, {"group", &p.group}, {"groups", &p.groups}, {"fleet", &p.fleet}} {
		v, there := globals[f.name]
		if !there {
			continue
		}
		fn, is := v.(*starlark.Function)
		if !is || fn.NumParams() != 1 || fn.HasVarargs() || fn.HasKwargs() {
			return nil, fmt.Errorf("%s: %s is %s, expected a function of one parameter", file, f.name, v.Type())
		}
		*f.to = fn
	}
	switch {
	case (p.group == nil) != (p.groups == nil):
		return nil, fmt.Errorf("%s: one of group(g) and groups(s) is missing: groups names the groups of a server, group makes the records of one", file)
	case p.server == nil && p.cluster == nil && p.group == nil && p.fleet == nil:
		return nil, fmt.Errorf("%s: defines none of server(s), cluster(c), group(g), fleet(f)", file)
	}
	return p, nil
}

// loader loads files once.
type loader struct {
	files    fs.FS
	universe starlark.StringDict
	done     map[string]starlark.StringDict
	loading  []string
	sum      hash.Hash // of all that was loaded
}

func newLoader(files fs.FS, params map[string]any) (*loader, error) {
	d, err := toStarlark(params)
	if err != nil {
		return nil, fmt.Errorf("params: %w", err)
	}
	d.Freeze()
	l := &loader{files: files, universe: universe(d.(*starlark.Dict)), done: map[string]starlark.StringDict{}, sum: sha256.New()}
	l.note("", []byte(d.String()))
	return l, nil
}

func (l *loader) load(file string) (starlark.StringDict, error) {
	if g, ok := l.done[file]; ok {
		return g, nil
	}
	if i := slices.Index(l.loading, file); i >= 0 {
		return nil, fmt.Errorf("%s: loads itself: %s", file, strings.Join(append(slices.Clone(l.loading[i:]), file), " -> "))
	}
	if !fs.ValidPath(file) || !strings.HasSuffix(file, ".star") {
		return nil, fmt.Errorf("%q: expected a file beside this one, such as common.star", file)
	}
	st, err := fs.Stat(l.files, file)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFile || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: expected a file of at most %d octets", file, maxFile)
	}
	text, err := fs.ReadFile(l.files, file)
	if err != nil {
		return nil, err
	}
	l.note(file, text)
	l.loading = append(l.loading, file)
	defer func() { l.loading = l.loading[:len(l.loading)-1] }()
	thread := &starlark.Thread{Name: file, Print: discard}
	thread.SetMaxExecutionSteps(loadSteps)
	thread.Load = func(_ *starlark.Thread, module string) (starlark.StringDict, error) {
		return l.load(path.Join(path.Dir(file), module))
	}
	g, err := starlark.ExecFileOptions(dialect, thread, file, text, l.universe)
	if err != nil {
		return nil, explain(err, "")
	}
	g.Freeze()
	l.done[file] = g
	return g, nil
}

// note takes a file into the digest.
func (l *loader) note(file string, text []byte) {
	fmt.Fprintf(l.sum, "%d %s %d ", len(file), file, len(text))
	l.sum.Write(text)
}

func discard(*starlark.Thread, string) {}

// explain makes one line of an error: where, for what it was called, and what is wrong.
func explain(err error, called string) error {
	var eval *starlark.EvalError
	if !errors.As(err, &eval) {
		return err // of the parser, with its position
	}
	at, calls := "", []string{}
	for _, f := range slices.Backward([]starlark.CallFrame(eval.CallStack)) {
		if !f.Pos.IsValid() || f.Pos.Filename() == "<builtin>" {
			continue
		}
		if at == "" {
			at = f.Pos.String()
		} else {
			calls = append(calls, f.Pos.String())
		}
	}
	text := at
	if called != "" {
		text += ": " + called
	}
	text += ": " + eval.Msg
	const most = 4
	if len(calls) > most {
		calls = calls[:most]
	}
	if len(calls) > 0 {
		text += " (called from " + strings.Join(calls, ", ") + ")"
	}
	return errors.New(text)
}

// Uncertain tells whether the members of a shard are not known while Shards fails for some
// server.
func (p *Program) Uncertain(shard string) bool { return strings.HasPrefix(shard, kindGroup+".") }

// Source implements rules.Rule.
func (p *Program) Source() record.Source { return p.source }

// Digest is the same for the same rule: of all files that were loaded, and of the
// parameters.
func (p *Program) Digest() string { return p.digest }

// Shards gives the shards that s is a member of. The error is that of groups(s).
func (p *Program) Shards(s fleet.Server) ([]string, error) {
	return p.shards(&thread{}, newServerValue(s))
}

func (p *Program) shards(t *thread, s *server) ([]string, error) {
	var out []string
	if p.server != nil {
		out = append(out, kindServer+"."+s.id)
	}
	if p.cluster != nil {
		out = append(out, kindCluster+"."+s.Cluster)
	}
	if p.fleet != nil {
		out = append(out, kindFleet)
	}
	if p.groups == nil {
		return out, nil
	}
	v, err := t.call(p.groups, s, 0)
	if err != nil {
		return out, explain(err, "groups of server "+s.id)
	}
	names, err := groupNames(v)
	if err != nil {
		return out, fmt.Errorf("%s: groups of server %s: %w", p.file, s.id, err)
	}
	for _, n := range names {
		if shard := kindGroup + "." + n; !slices.Contains(out, shard) {
			out = append(out, shard)
		}
	}
	return out, nil
}

func groupNames(v starlark.Value) ([]string, error) {
	if v == starlark.None {
		return nil, nil
	}
	var all []starlark.Value
	switch v := v.(type) {
	case starlark.String:
		all = []starlark.Value{v}
	case *starlark.List:
		for i := range v.Len() {
			all = append(all, v.Index(i))
		}
	case starlark.Tuple:
		all = v
	default:
		return nil, fmt.Errorf("returned %s, expected the name of a group, a list of them, or None", v.Type())
	}
	if len(all) > maxGroups {
		return nil, fmt.Errorf("returned %d groups, at most %d", len(all), maxGroups)
	}
	var names []string
	for _, v := range all {
		n, ok := starlark.AsString(v)
		if !ok {
			return nil, fmt.Errorf("returned a list with %s in it, expected names of groups", v.Type())
		}
		if strings.Contains(n, "/") || store.CheckPath("/"+kindGroup+"."+n) != nil {
			return nil, fmt.Errorf("returned the group %.80q, expected one path element of printable ASCII", n)
		}
		names = append(names, n)
	}
	return names, nil
}

// Claims implements rules.Rule.
func (p *Program) Claims(shard string, members func() []fleet.Server) ([]record.Claim, error) {
	all := members()
	found, err := p.evaluate(&thread{}, shard, all)
	if err != nil {
		return nil, err
	}
	return claimsOf(p.source, shard, all, found), nil
}

// evaluate makes the records of a shard.
func (p *Program) evaluate(t *thread, shard string, all []fleet.Server) ([]made, error) {
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: shard %s has no members", p.file, shard)
	}
	kind, name, _ := strings.Cut(shard, ".")
	var fn starlark.Callable
	var arg starlark.Value
	switch kind {
	case kindServer:
		fn, arg = p.server, newServerValue(all[0])
	case kindCluster:
		fn, arg = p.cluster, newSeveral("cluster", name, all)
	case kindGroup:
		fn, arg = p.group, newSeveral("group", name, all)
	case kindFleet:
		fn, arg = p.fleet, newSeveral("fleet", "", all)
	}
	if fn == nil {
		return nil, fmt.Errorf("%s: shard %s is of no function of the rule", p.file, shard)
	}
	return p.make(t, shard, fn, arg, len(all))
}

// make has a function make the records of a shard of so many members.
func (p *Program) make(t *thread, shard string, fn starlark.Callable, arg starlark.Value, members int) ([]made, error) {
	v, err := t.call(fn, arg, members)
	if err != nil {
		return nil, explain(err, shardText(shard))
	}
	records, err := flatten(v, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", p.file, shardText(shard), err)
	}
	records = united(records)
	found := make([]made, len(records))
	for i, c := range records {
		found[i] = made{RRset: c.RRset, fallback: c.fallback, file: c.at.Filename(), line: uint32(c.at.Line)}
	}
	return found, nil
}

// shardText is a shard for people.
func shardText(shard string) string {
	kind, name, _ := strings.Cut(shard, ".")
	switch kind {
	case kindServer:
		return "server " + name
	case kindCluster:
		return "cluster " + name
	case kindGroup:
		return "group " + name
	}
	return "the fleet"
}

// claimsOf makes claims of the records of a shard.
func claimsOf(source record.Source, shard string, members []fleet.Server, all []made) []record.Claim {
	if len(all) == 0 {
		return nil
	}
	who := newest(members)
	said := provenance(who)
	what := ", " + shardText(shard)
	many := ""
	if !strings.HasPrefix(shard, kindServer+".") {
		many = fmt.Sprintf(" (%d), newest server %s", len(members), who.ID())
	}
	claims := make([]record.Claim, len(all))
	for i := range all {
		m := &all[i]
		c := &claims[i]
		*c = record.Claim{RRset: m.RRset, Source: source, Place: m.file + ":" + strconv.Itoa(int(m.line)) + what, Fallback: m.fallback}
		if !m.fallback { // what makes a zone hold is nobody's in particular, and is not written again for each of its servers
			c.Place += many
			c.Provenance = said
		}
	}
	return claims
}

// thread calls functions of rules, one after the other. The zero value is ready.
type thread struct{ starlark *starlark.Thread }

func (t *thread) call(fn starlark.Callable, arg starlark.Value, members int) (starlark.Value, error) {
	if t.starlark == nil {
		t.starlark = &starlark.Thread{Print: discard}
	}
	t.starlark.SetMaxExecutionSteps(t.starlark.ExecutionSteps() + callSteps + uint64(members)*memberSteps)
	v, err := starlark.Call(t.starlark, fn, starlark.Tuple{arg}, nil)
	if err != nil {
		t.starlark = nil // it may be cancelled for ever
	}
	return v, err
}
