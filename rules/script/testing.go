package script

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/fleet"
)

// Outcome is what came of one test.
type Outcome struct {
	File string
	Name string
	Err  error // nil: it passed
	Took time.Duration
}

// Test runs the functions test_* of every *_test.star of a directory, in order. They have
// what rules have, and
//
//	new_server(name, addresses=[], role=…, site=…, cluster=…, ttl=…, options={})
//	new_cluster(name, servers), new_group(name, servers), new_fleet(servers)
//	equal(got, want)   fails unless both are equal; records are equal wherever they were made
//	fails(function, text)   fails unless calling it fails with text in the error
func Test(files fs.FS) ([]Outcome, error) {
	params, err := readParams(files)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	var out []Outcome
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), "_test.star") {
			continue
		}
		l, err := newLoader(files, params)
		if err != nil {
			return nil, err
		}
		for name, f := range testFunctions() {
			l.universe[name] = starlark.NewBuiltin(name, f)
		}
		globals, err := l.load(e.Name())
		if err != nil {
			out = append(out, Outcome{File: e.Name(), Err: err})
			continue
		}
		names := slices.Sorted(slices.Values(globals.Keys()))
		for _, name := range names {
			fn, is := globals[name].(*starlark.Function)
			if !is || !strings.HasPrefix(name, "test_") {
				continue
			}
			began := time.Now()
			thread := &starlark.Thread{Name: name, Print: discard}
			thread.SetMaxExecutionSteps(loadSteps)
			_, err := starlark.Call(thread, fn, nil, nil)
			if err != nil {
				err = explain(err, name)
			}
			out = append(out, Outcome{e.Name(), name, err, time.Since(began)})
		}
	}
	return out, nil
}

func testFunctions() map[string]builtin {
	return map[string]builtin{
		"new_server": newServer, "new_cluster": newMembers("cluster"), "new_group": newMembers("group"), "new_fleet": newFleet,
		"equal": equal, "fails": fails,
	}
}

func newServer(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	s := fleet.Server{Role: "server", Site: "site", Origin: fleet.OriginCall}
	ttl := fleet.DefaultTTL
	var addresses *starlark.List
	var options *starlark.Dict
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "addresses?", &addresses, "role?", &s.Role, "site?", &s.Site,
		"cluster?", &s.Cluster, "ttl?", &ttl, "options?", &options); err != nil {
		return nil, err
	}
	var err error
	if s.Name, err = fleet.ParseName(name); err != nil {
		return nil, fmt.Errorf("new_server: name: %w", err)
	}
	s.TTL = uint32(ttl)
	if addresses != nil {
		for i := range addresses.Len() {
			a, err := addressOf(addresses.Index(i))
			if err != nil {
				return nil, fmt.Errorf("new_server: addresses: %w", err)
			}
			s.Addresses = append(s.Addresses, a)
		}
	}
	if options != nil {
		s.Options = map[string]string{}
		for _, kv := range options.Items() {
			k, ok := starlark.AsString(kv[0])
			v, is := starlark.AsString(kv[1])
			if !ok || !is {
				return nil, fmt.Errorf("new_server: options: got %s: %s, expected strings", kv[0].Type(), kv[1].Type())
			}
			s.Options[k] = v
		}
	}
	return newServerValue(s.Normal()), nil
}

func membersOf(call string, l *starlark.List) ([]fleet.Server, error) {
	var all []fleet.Server
	for i := range l.Len() {
		s, is := l.Index(i).(*server)
		if !is {
			return nil, fmt.Errorf("%s: servers: got %s, expected servers", call, l.Index(i).Type())
		}
		all = append(all, s.Server)
	}
	return all, nil
}

func newMembers(kind string) builtin {
	return func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		var name string
		var l *starlark.List
		if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "servers", &l); err != nil {
			return nil, err
		}
		all, err := membersOf(b.Name(), l)
		if err != nil {
			return nil, err
		}
		return newSeveral(kind, name, all), nil
	}
}

func newFleet(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var l *starlark.List
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "servers", &l); err != nil {
		return nil, err
	}
	all, err := membersOf(b.Name(), l)
	if err != nil {
		return nil, err
	}
	return newSeveral("fleet", "", all), nil
}

func equal(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var got, want starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "got", &got, "want", &want); err != nil {
		return nil, err
	}
	same, err := starlark.Equal(got, want)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, fmt.Errorf("got %s, want %s", got, want)
	}
	return starlark.None, nil
}

func fails(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var fn starlark.Callable
	var text string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "function", &fn, "text?", &text); err != nil {
		return nil, err
	}
	_, err := starlark.Call(thread, fn, nil, nil)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%s does not fail", fn.Name())
	case !strings.Contains(err.Error(), text):
		return nil, fmt.Errorf("%s fails with %q, want %q in it", fn.Name(), err, text)
	}
	return starlark.None, nil
}
