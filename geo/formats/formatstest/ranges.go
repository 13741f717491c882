package formatstest

import (
	"net/netip"
	"slices"
	"sort"
)

// Ranges is what each address gets by prefixes, the longest of which counts: written anew
// here, as the other opinion on package geo.
type Ranges struct {
	at    []netip.Addr // where each begins, ascending; IPv4 before IPv6
	value []string
}

// Said is what a prefix gets.
type Said struct {
	Prefix netip.Prefix
	Value  string
}

// NewRanges makes ranges of prefixes in any order, each there once. Addresses in none of them
// get "".
func NewRanges(all []Said) *Ranges {
	r := &Ranges{at: []netip.Addr{netip.IPv4Unspecified()}, value: []string{""}}
	put := func(a netip.Addr, value string) {
		if last := len(r.at) - 1; r.at[last] == a {
			r.value[last] = value
		} else if r.value[last] != value || r.at[last].BitLen() != a.BitLen() {
			r.at, r.value = append(r.at, a), append(r.value, value)
		}
	}
	var open []Said
	leave := func(before netip.Addr) {
		for n := len(open) - 1; n >= 0 && (!before.IsValid() || !open[n].Prefix.Contains(before)); n-- {
			end := Last(open[n].Prefix).Next()
			open = open[:n]
			if end.IsValid() { // Next of the last of all is none
				value := ""
				if n > 0 {
					value = open[n-1].Value
				}
				put(end, value)
			}
		}
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Said) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
	six := false
	for _, s := range all {
		leave(s.Prefix.Addr())
		if s.Prefix.Addr().Is6() && !six {
			six = true
			put(netip.IPv6Unspecified(), "")
		}
		put(s.Prefix.Addr(), s.Value)
		open = append(open, s)
	}
	leave(netip.Addr{})
	if !six {
		put(netip.IPv6Unspecified(), "")
	}
	return r
}

// Last is the last address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		b[i] |= byte(0xff >> min(8, max(0, p.Bits()-8*i)))
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (r *Ranges) find(a netip.Addr) int {
	return sort.Search(len(r.at), func(i int) bool { return r.at[i].Compare(a) > 0 }) - 1
}

// At is what an address gets.
func (r *Ranges) At(a netip.Addr) string { return r.value[r.find(a)] }

// In gives how many ranges a prefix has a part of, and whether all of its addresses get the
// same.
func (r *Ranges) In(p netip.Prefix) (count int, uniform bool) {
	from, to := r.find(p.Masked().Addr()), r.find(Last(p))
	return to - from + 1, !slices.ContainsFunc(r.value[from:to+1], func(v string) bool { return v != r.value[from] })
}

// ScopeFault tells what is wrong with the scope of an answer to a whole address, or "": an
// address in the scope gets something else (RFC 7871 §7.2.1), or, with widest, everybody in
// the next wider prefix gets the same; of those with more ranges than bound nothing is said.
func (r *Ranges) ScopeFault(client netip.Addr, scope int, widest bool, bound int) string {
	if scope < 0 || scope > client.BitLen() {
		return "it is no length of a prefix"
	}
	if _, uniform := r.In(netip.PrefixFrom(client, scope)); !uniform {
		return "not everybody in it gets the same"
	}
	if scope > 0 && widest {
		if count, uniform := r.In(netip.PrefixFrom(client, scope-1)); uniform && count <= bound {
			return "everybody in the next wider prefix gets the same, too"
		}
	}
	return ""
}
