package zookeeper

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/store"
)

// Every path has a znode of its own, from which it is read back, and no znode is that
// of a node and of a directory.
func TestLayout(t *testing.T) {
	s := &Store{root: "/z"}
	for path, leaf := range map[string]string{
		"/a":           "/z/tree/=a",
		"/a/b":         "/z/tree/a/=b",
		"/=a/=b":       "/z/tree/~=a/==b",
		"/~a/~b":       "/z/tree/~~a/=~b",
		"/zookeeper/q": "/z/tree/zookeeper/=q",
	} {
		if got := s.leaf(path); got != leaf {
			t.Errorf("%s is at %s, expected %s", path, got, leaf)
		}
	}
	element := rapid.StringMatching(`[=~.a-c@!]{1,4}`).Filter(func(e string) bool { return e != "." && e != ".." })
	rapid.Check(t, func(t *rapid.T) {
		elements := rapid.SliceOfN(element, 1, 4).Draw(t, "elements")
		path := "/" + strings.Join(elements, "/")
		leaf := s.leaf(path)
		got := ""
		names := strings.Split(strings.TrimPrefix(leaf, "/z/tree/"), "/")
		for i, name := range names {
			e, isLeaf, ok := child(name)
			if !ok || isLeaf != (i == len(names)-1) {
				t.Fatalf("%s of %s: %q, node %t, ok %t", name, leaf, e, isLeaf, ok)
			}
			got += "/" + e
		}
		if got != path {
			t.Fatalf("%s is at %s, which is read as %s", path, leaf, got)
		}
		if d := s.dir(path + "/"); d == leaf || !strings.HasPrefix(d, "/z/tree/") {
			t.Fatalf("the directory of %s/ is %s, the node is %s", path, d, leaf)
		}
	})
	for _, name := range []string{"", "=", "~", "~a", "a b", "=é", "."} {
		if e, _, ok := child(name); ok {
			t.Errorf("znode %q is read as %q, expected that it is not ours", name, e)
		}
	}
}

func TestLeafData(t *testing.T) {
	const owner = "0123456789abcdef"
	for _, o := range []string{"", owner} {
		for _, v := range []string{"", "P", "E0123456789abcdefx", "\x00\xff"} {
			got, value, err := decodeLeaf(encodeLeaf(o, []byte(v)))
			if err != nil || got != o || string(value) != v {
				t.Errorf("%q of %q: %q of %q, %v", v, o, value, got, err)
			}
		}
	}
	for _, bad := range []string{"", "x", "E0123"} {
		if _, _, err := decodeLeaf([]byte(bad)); !errors.Is(err, errForeign) {
			t.Errorf("%q: error is %v, expected that it is foreign", bad, err)
		}
	}
}

func TestFormat(t *testing.T) {
	s := &Store{root: "/z"}
	for text, want := range map[string]int64{"zonecast store 1, generation 0\n": 0, "zonecast store 1, generation 12\n": 12, "zonecast store 2, generation 0\n": -1, "": -1, "zonecast store 1, generation -1\n": -1} {
		f, err := s.parseFormat([]byte(text), &zk.Stat{Version: 3})
		switch {
		case want < 0 && !errors.Is(err, errForeign):
			t.Errorf("%q: %+v, %v, expected that it is foreign", text, f, err)
		case want >= 0 && (err != nil || f != format{want, 3} || string(f.encode()) != text):
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
	if got := sequences([]string{"c-0000000010", "c-0000000009", "other", "c-x", "c--000000001", "c-4294967296"}); len(got) != 2 || got[0] != 9 || got[1] != 10 {
		t.Errorf("sequences are %v, expected 9 and 10", got)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg Config
		bad string // in the error; empty: none
	}{
		{Config{Servers: []string{"192.0.2.1:2181", "[2001:db8::1]:2181"}}, ""},
		{Config{Servers: []string{"zk.example.net:2181"}, Root: "/a/b", Auth: "alice:se:cret"}, ""},
		{Config{}, "servers are missing"},
		{Config{Servers: []string{"192.0.2.1"}}, "host:port"},
		{Config{Servers: []string{":2181"}}, "host:port"},
		{Config{Servers: []string{"a:1"}, Root: "a"}, "root"},
		{Config{Servers: []string{"a:1"}, Root: "/a/"}, "root"},
		{Config{Servers: []string{"a:1"}, Root: "/zookeeper/a"}, "ZooKeeper's own"},
		{Config{Servers: []string{"a:1"}, Root: "/" + strings.Repeat("a/", 150) + "a"}, "at most 256"},
		{Config{Servers: []string{"a:1"}, Auth: "alice"}, "user:password"},
		{Config{Servers: []string{"a:1"}, Auth: ":x"}, "user:password"},
	} {
		err := c.cfg.Validate()
		if (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%+v: error is %v, expected %q", c.cfg, err, c.bad)
		}
		if err != nil {
			if s, err := Open(t.Context(), c.cfg); err == nil {
				s.Close()
				t.Errorf("%+v is opened", c.cfg)
			}
		}
	}
}

// The library's own packet of a transaction is never larger than what is counted.
func TestPacketSize(t *testing.T) {
	s := &Store{root: "/" + strings.Repeat("r", 100), acl: zk.DigestACL(zk.PermAll, "alice", "secret")}
	a := attempt{s: s, seen: map[string]*zk.Stat{"/b": {Czxid: 1, Version: 2}, "/c": {}, "/e": {}}, bumps: map[int]int32{}, owner: "0123456789abcdef", txn: store.Txn{
		If: []store.Cond{{Path: "/d"}, {Path: "/e"}},
		Do: []store.Op{{Path: "/a/x/y", Value: make([]byte, 1000)}, {Path: "/b", Value: make([]byte, 100)}, {Path: "/c", Delete: true}, {Path: "/f", Delete: true}},
	}}
	if err := a.plan(); err != nil {
		t.Fatal(err)
	}
	// Jute (ZooKeeper's record format): 4 octets before what has a length, numbers of
	// 4, and before each operation its type, a boolean and an error: 9.
	size := 0
	for _, op := range a.ops {
		switch op := op.(type) {
		case *zk.CreateRequest:
			size += 9 + 4 + len(op.Path) + 4 + len(op.Data) + 4 + 4
			for _, acl := range op.Acl {
				size += 4 + 4 + len(acl.Scheme) + 4 + len(acl.ID)
			}
		case *zk.SetDataRequest:
			size += 9 + 4 + len(op.Path) + 4 + len(op.Data) + 4
		case *zk.DeleteRequest:
			size += 9 + 4 + len(op.Path) + 4
		case *zk.CheckVersionRequest:
			size += 9 + 4 + len(op.Path) + 4
		default:
			t.Fatalf("operation %T", op)
		}
	}
	if a.size != size || len(a.why) != len(a.ops) {
		t.Errorf("%d octets and %d reasons, expected %d and %d", a.size, len(a.why), size, len(a.ops))
	}
}
