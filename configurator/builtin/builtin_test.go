package builtin

import (
	"slices"
	"strings"
	"testing"

	"go.starlark.net/starlark"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// TestPolicyIsTheDefault: a Policy of which nothing is said is reconcile's default, and the
// kinds of sources are those of package record.
func TestPolicyIsTheDefault(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	x, err := l.Policy.New(make([]idl.Value, len(l.Policy.Fields)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range x.Get("precedence").([]idl.Value) {
		got = append(got, strings.ToLower(m.(*idl.Member).Name))
	}
	want := reconcile.DefaultPolicy()
	if !slices.Equal(got, want.Precedence) || x.Get("min_ttl") != int64(want.MinTTL) || x.Get("max_ttl") != int64(want.MaxTTL) {
		t.Errorf("policy is %s, want %+v", idl.AppendJSON(nil, x), want)
	}
}

// TestRelative: a name written relative to a zone is read as the same name.
func TestRelative(t *testing.T) {
	label := rapid.SampledFrom([]string{"www", "example", "net", "@", "a.b", "*", "\x00", "a\\", "org", " "})
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string) record.Name {
			n := record.Root
			for range rapid.IntRange(0, 5).Draw(t, what) {
				n, _ = n.Child(label.Draw(t, "label"))
			}
			return n
		}
		origin, n := draw("origin"), draw("name")
		if rapid.Bool().Draw(t, "below") {
			for range rapid.IntRange(0, 4).Draw(t, "labels") {
				n, _ = origin.Child(label.Draw(t, "label"))
			}
		}
		text := Relative(n, origin)
		back, err := dnswire.ParseName(text, origin)
		if err != nil || back != n {
			t.Fatalf("%s below %s is written %q, which is %s (%v)", n, origin, text, back, err)
		}
		g := gatherer{origin: origin}
		if g.doubled(text, back) {
			t.Fatalf("%s below %s is written %q, which is taken for a mistake", n, origin, text)
		}
	})
}

// TestQuotedTexts: any text is one TXT record, and is read back.
func TestQuotedTexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "text"))
		rd, err := dnswire.ParseRdata(record.TypeTXT, QuoteText(text), record.Root)
		if err != nil {
			t.Fatal(err)
		}
		var back strings.Builder
		for rest := string(rd); rest != ""; rest = rest[1+int(rest[0]):] {
			back.WriteString(rest[1 : 1+int(rest[0])])
		}
		if back.String() != text {
			t.Fatalf("%q is read as %q", text, back.String())
		}
	})
}

// TestAddressesOfPoPs and of VIPs are checked where they are made, and reverse_name is
// that of package reconcile's PTR rules.
func TestAddresses(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	call := func(f string, kwargs map[string]starlark.Value, args ...starlark.Value) (starlark.Value, error) {
		var kw []starlark.Tuple
		for k, v := range kwargs {
			kw = append(kw, starlark.Tuple{starlark.String(k), v})
		}
		all := l.Types()
		if v, ok := l.Functions()[f]; ok {
			all[f] = v
		}
		return starlark.Call(&starlark.Thread{}, all[f], args, kw)
	}
	addresses := func(all ...string) starlark.Value {
		var l []starlark.Value
		for _, a := range all {
			l = append(l, starlark.String(a))
		}
		return starlark.NewList(l)
	}
	for want, a := range map[string]starlark.Value{
		`expected an IPv4 or IPv6 address, found "192.0.2.256"`:  addresses("192.0.2.256"),
		`expected an IPv4 or IPv6 address, found "fe80::1%eth0"`: addresses("fe80::1%eth0"),
		"192.0.2.1 is there twice":                               addresses("192.0.2.1", "192.0.2.1"),
		"has 0 elements, expected 1..":                           addresses(),
	} {
		for _, f := range []string{"VIP", "PoP"} {
			if _, err := call(f, map[string]starlark.Value{"name": starlark.String("x"), "addresses": a}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error is %v, want %s", f, err, want)
			}
		}
	}
	for address, want := range map[string]string{
		"192.0.2.1":   "1.2.0.192.in-addr.arpa.",
		"2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
	} {
		got, err := call("reverse_name", nil, starlark.String(address))
		if err != nil || got != starlark.String(want) {
			t.Errorf("reverse_name(%s) is %v, %v", address, got, err)
		}
	}
}
