package recursor

import (
	"fmt"
	"iter"

	"github.com/zonecast/zonecast/record"
)

// builtin are the zones that Unbound answers itself unless it is told not to: RFC 6303
// §4, RFC 7793, RFC 6761 and RFC 8375, as unbound.conf(5) lists them under local-zone.
// Without a word about them 10.in-addr.arpa of the dataset would never be asked for.
var builtin = func() []record.Name {
	texts := []string{
		"localhost.", "127.in-addr.arpa.", "onion.", "test.", "invalid.", "home.arpa.",
		"10.in-addr.arpa.", "168.192.in-addr.arpa.", "0.in-addr.arpa.", "254.169.in-addr.arpa.", "2.0.192.in-addr.arpa.",
		"100.51.198.in-addr.arpa.", "113.0.203.in-addr.arpa.", "255.255.255.255.in-addr.arpa.",
		"d.f.ip6.arpa.", "8.e.f.ip6.arpa.", "9.e.f.ip6.arpa.", "a.e.f.ip6.arpa.", "b.e.f.ip6.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa.",
		"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
	}
	for i := 16; i <= 31; i++ {
		texts = append(texts, fmt.Sprintf("%d.172.in-addr.arpa.", i))
	}
	for i := 64; i <= 127; i++ {
		texts = append(texts, fmt.Sprintf("%d.100.in-addr.arpa.", i))
	}
	all := make([]record.Name, len(texts))
	for i, text := range texts {
		var err error
		if all[i], err = record.ParseName(text); err != nil {
			panic(err) // a mistake above
		}
	}
	return all
}()

// opened gives what has to be made transparent, so that a zone is asked for: the zone
// itself where it is one that Unbound answers or lies in one, and those that lie in it.
// A zone in one of Unbound's leaves the rest of that to Unbound.
func opened(zone record.Name) iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		for _, b := range builtin {
			name := b
			if zone.IsSubdomainOf(b) {
				name = zone
			} else if !b.IsSubdomainOf(zone) {
				continue
			}
			if !yield(name) {
				return
			}
		}
	}
}
