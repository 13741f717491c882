package script

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// server is a fleet.Server as rules see it: nothing of it can be changed.
type server struct {
	fleet.Server
	id string
}

func newServerValue(s fleet.Server) *server { return &server{s, s.ID()} }

var (
	_ starlark.HasAttrs   = &server{}
	_ starlark.Comparable = &server{}
)

var serverAttrs = []string{"addresses", "cluster", "domain", "label", "name", "options", "role", "site", "ttl", "v4", "v6"}

func (s *server) String() string        { return "server(" + s.id + ")" }
func (s *server) Type() string          { return "server" }
func (s *server) Freeze()               {}
func (s *server) Truth() starlark.Bool  { return true }
func (s *server) AttrNames() []string   { return serverAttrs }
func (s *server) Hash() (uint32, error) { return hashOf(s.id), nil }

func (s *server) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	return compare(op, s.Same(y.(*server).Server), s.Type())
}

// Attr implements starlark.HasAttrs.
func (s *server) Attr(name string) (starlark.Value, error) {
	switch name {
	case "name":
		return starlark.String(s.id), nil
	case "label":
		label, _, _ := strings.Cut(s.id, ".")
		return starlark.String(label), nil
	case "domain":
		return starlark.String(fleet.ID(s.Domain())), nil
	case "role":
		return starlark.String(s.Role), nil
	case "site":
		return starlark.String(s.Site), nil
	case "cluster":
		return starlark.String(s.Cluster), nil
	case "ttl":
		return starlark.MakeInt(int(s.TTL)), nil
	case "addresses", "v4", "v6":
		all := make([]starlark.Value, 0, len(s.Addresses))
		for _, a := range s.Addresses {
			if name == "addresses" || a.Is4() == (name == "v4") {
				all = append(all, starlark.String(a.String()))
			}
		}
		l := starlark.NewList(all)
		l.Freeze()
		return l, nil
	case "options":
		d := starlark.NewDict(len(s.Options))
		for k, v := range s.Options {
			if err := d.SetKey(starlark.String(k), starlark.String(v)); err != nil {
				return nil, err
			}
		}
		d.Freeze()
		return d, nil
	}
	return nil, nil
}

// several is a cluster, a group, or the fleet.
type several struct {
	kind    string
	name    string // "" for the fleet
	servers *starlark.List
}

var _ starlark.HasAttrs = several{}

func newSeveral(kind, name string, members []fleet.Server) several {
	all := make([]starlark.Value, len(members))
	for i, s := range members {
		all[i] = newServerValue(s)
	}
	l := starlark.NewList(all)
	l.Freeze()
	return several{kind, name, l}
}

func (g several) String() string {
	return fmt.Sprintf("%s(%s, %d servers)", g.kind, g.name, g.servers.Len())
}
func (g several) Type() string          { return g.kind }
func (g several) Freeze()               {}
func (g several) Truth() starlark.Bool  { return g.servers.Len() > 0 }
func (g several) Hash() (uint32, error) { return 0, fmt.Errorf("unhashable: %s", g.kind) }
func (g several) AttrNames() []string   { return []string{"name", "servers"} }

// Attr implements starlark.HasAttrs.
func (g several) Attr(name string) (starlark.Value, error) {
	switch {
	case name == "servers":
		return g.servers, nil
	case name == "name" && g.kind != "fleet":
		return starlark.String(g.name), nil
	}
	return nil, nil
}

// claimed is an RRset that a rule makes, and where.
type claimed struct {
	record.RRset
	fallback bool
	at       syntax.Position
}

var (
	_ starlark.Comparable = claimed{}
	_ starlark.HasAttrs   = claimed{}
)

func (c claimed) String() string {
	var lines []string
	for _, d := range c.Data {
		lines = append(lines, fmt.Sprintf("%s %d %s %s", c.Owner, c.TTL, c.RRset.Type, dnswire.FormatRdata(c.RRset.Type, d)))
	}
	return strings.Join(lines, "\n")
}
func (c claimed) Type() string          { return "record" }
func (c claimed) Freeze()               {}
func (c claimed) Truth() starlark.Bool  { return true }
func (c claimed) Hash() (uint32, error) { return hashOf(c.String()), nil }
func (c claimed) AttrNames() []string   { return []string{"data", "owner", "ttl", "type"} }

// Attr implements starlark.HasAttrs.
func (c claimed) Attr(name string) (starlark.Value, error) {
	switch name {
	case "owner":
		return starlark.String(c.Owner.String()), nil
	case "type":
		return starlark.String(c.RRset.Type.String()), nil
	case "ttl":
		return starlark.MakeInt(int(c.TTL)), nil
	case "data":
		var all []starlark.Value
		for _, d := range c.Data {
			all = append(all, starlark.String(dnswire.FormatRdata(c.RRset.Type, d)))
		}
		l := starlark.NewList(all)
		l.Freeze()
		return l, nil
	}
	return nil, nil
}

// CompareSameType implements starlark.Comparable; where a record was made does not count.
func (c claimed) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	o := y.(claimed)
	return compare(op, c.Equal(o.RRset) && c.fallback == o.fallback, c.Type())
}

func compare(op syntax.Token, equal bool, kind string) (bool, error) {
	switch op {
	case syntax.EQL:
		return equal, nil
	case syntax.NEQ:
		return !equal, nil
	}
	return false, fmt.Errorf("%s %s %s is not defined", kind, op, kind)
}

func hashOf(text string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(text))
	return h.Sum32()
}

// flatten gives the records of what a rule returned.
func flatten(v starlark.Value, to []claimed) ([]claimed, error) {
	switch v := v.(type) {
	case starlark.NoneType:
		return to, nil
	case claimed:
		return append(to, v), nil
	case starlark.Iterable:
		if _, dict := v.(*starlark.Dict); dict {
			break
		}
		it := v.Iterate()
		defer it.Done()
		var e starlark.Value
		for it.Next(&e) {
			var err error
			if to, err = flatten(e, to); err != nil {
				return nil, err
			}
			if len(to) > maxRecords {
				return nil, fmt.Errorf("more than %d records", maxRecords)
			}
		}
		return to, nil
	}
	return nil, fmt.Errorf("returned %s, expected records, lists of them, or None", v.Type())
}

// united makes one RRset of all that have one key: their data, and the least TTL.
func united(all []claimed) []claimed {
	slices.SortStableFunc(all, func(a, b claimed) int { return a.Key.Compare(b.Key) })
	var out []claimed
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Key == all[0].Key {
			n++
		}
		c := all[0]
		if n > 1 {
			var data []record.Rdata
			for _, o := range all[:n] {
				data = append(data, o.Data...)
				c.TTL, c.fallback = min(c.TTL, o.TTL), c.fallback && o.fallback
			}
			c.RRset = record.NewRRset(c.Owner, c.RRset.Type, c.TTL, data...)
		}
		out, all = append(out, c), all[n:]
	}
	return out
}

// newest is the member that changed last.
func newest(members []fleet.Server) fleet.Server {
	return slices.MaxFunc(members, func(a, b fleet.Server) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), a.Name.Compare(b.Name))
	})
}
