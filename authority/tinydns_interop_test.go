//go:build interop

package authority_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/wire"
	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/internal/tinydns/tinytest"
)

// tinydnsChanged is when the data was changed, which is the serial of its zones.
var tinydnsChanged = time.Unix(1_700_000_000, 0)

// serveTinydns answers text as `zonecast serve --format tinydns` does.
func serveTinydns(t *testing.T, text []byte, ip string) netip.AddrPort {
	t.Helper()
	d, err := tinydns.ParseText(bytes.NewReader(text), "data", tinydnsChanged)
	if err != nil {
		t.Fatal(err)
	}
	atlas, err := d.Atlas.AppendBinary(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	im, err := imagetest.Build(filepath.Join(t.TempDir(), "image"), d.Sets, image.Options{NoSync: true, AnyDepth: d.AnyDepth, Atlas: atlas})
	if err != nil {
		t.Fatal(err)
	}
	view := data.New(im)
	s, err := wire.Listen(wire.Config{Listen: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(ip), 0)}},
		func() (wire.Handler, func()) {
			return zoneHandler{view, protocol.NewWorker(protocol.Config{})}, func() {}
		}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()[0]
}

// askFrom asks from an address; nil: there is no answer.
func askFrom(t *testing.T, from string, server netip.AddrPort, network string, q *dns.Msg, wait time.Duration) *dns.Msg {
	t.Helper()
	local := net.Addr(&net.UDPAddr{IP: net.ParseIP(from)})
	if network == "tcp" {
		local = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c := dns.Client{Net: network, Timeout: wait, Dialer: &net.Dialer{LocalAddr: local}, UDPSize: 4096}
	m, _, err := c.Exchange(q, server.String())
	var timeout net.Error
	if errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	if err != nil {
		t.Fatalf("%s %s from %s: %v", q.Question[0].Name, dns.TypeToString[q.Question[0].Qtype], from, err)
	}
	return m
}

// records are those of a section as text, TTLs that shrink towards an end left out.
func recordsOf(rrs []dns.RR, keep func(dns.RR) bool) []string {
	var out []string
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		if !keep(rr) {
			continue
		}
		rr.Header().Name = strings.ToLower(rr.Header().Name)
		out = append(out, strings.ToLower(rr.String()))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// tinydnsDiffers tells how the answers differ, beyond what each rule allows; which
// rule was used is counted.
func tinydnsDiffers(q dns.Question, ours, theirs *dns.Msg, used map[string]int) string {
	allow := func(rule string) string {
		used[rule]++
		return ""
	}
	switch {
	case theirs == nil:
		if ours.Rcode != dns.RcodeRefused {
			return "tinydns does not answer"
		}
		return allow("outside its zones tinydns keeps silent, we refuse (RFC 8906)")
	case theirs.Truncated || ours.Truncated:
		return allow("truncated")
	}
	all := func(dns.RR) bool { return true }
	answer := recordsOf(theirs.Answer, all)
	own := recordsOf(ours.Answer, all)
	if len(theirs.Answer) > 0 && theirs.Answer[0].Header().Rrtype == dns.TypeCNAME && q.Qtype != dns.TypeCNAME {
		own = recordsOf(ours.Answer, func(rr dns.RR) bool { return strings.EqualFold(rr.Header().Name, q.Name) })
		if !slices.Equal(own, answer) {
			return "the alias differs"
		}
		return allow("we go on at the name that an alias leads to")
	}
	if ours.Rcode != theirs.Rcode {
		if theirs.Rcode == dns.RcodeNameError && ours.Rcode == dns.RcodeSuccess && len(ours.Answer) == 0 {
			return allow("for tinydns a name without records does not exist though there are names below (RFC 8020)")
		}
		return "rcode"
	}
	if q.Qtype == dns.TypeANY || q.Qtype == dns.TypeA {
		// At most eight, at random; of ANY the other types are all there.
		isA := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeA }
		other := func(rr dns.RR) bool { return !isA(rr) }
		ourA, theirA := recordsOf(ours.Answer, isA), recordsOf(theirs.Answer, isA)
		if len(ourA) == 8 && len(theirA) == 8 {
			noTTL := func(rr dns.RR) bool { rr.Header().Ttl = 0; return other(rr) }
			if !slices.Equal(recordsOf(ours.Answer, noTTL), recordsOf(theirs.Answer, noTTL)) {
				return "records beside the addresses"
			}
			return allow("eight addresses at random")
		}
	}
	if !slices.Equal(answer, own) {
		ttl := func(rrs []dns.RR) []string {
			return recordsOf(rrs, func(rr dns.RR) bool { rr.Header().Ttl = 0; return true })
		}
		if slices.Equal(ttl(ours.Answer), ttl(theirs.Answer)) {
			return allow("of records with several TTLs tinydns answers the last one's, or both (docs/format/tinydns.md)")
		}
		return "answer"
	}
	if ours.Authoritative != theirs.Authoritative {
		return "AA"
	}
	if len(answer) == 0 {
		isNS := func(rr dns.RR) bool { rr.Header().Ttl = 0; return rr.Header().Rrtype == dns.TypeNS }
		if !slices.Equal(recordsOf(ours.Ns, isNS), recordsOf(theirs.Ns, isNS)) {
			return "referral"
		}
	}
	return ""
}

// TestTinydnsAnswers serves one text with tinydns and with ours and compares the
// answers for clients in several locations.
func TestInteropTinydnsAnswers(t *testing.T) {
	used := map[string]int{}
	asked, answered := 0, 0
	for seed := range uint64(4) {
		text := tinytest.Generate(seed, 600)
		theirIP := fmt.Sprintf("127.53.0.%d", seed+1)
		tinytest.Serve(t, text, tinydnsChanged, theirIP)
		ours, theirs := serveTinydns(t, text, "127.0.0.1"), netip.AddrPortFrom(netip.MustParseAddr(theirIP), 53)
		var names []string
		for _, z := range tinytest.Zones() {
			names = append(names, z)
			for _, l := range tinytest.Labels() {
				l = strings.NewReplacer(`\056`, `\.`, `\052`, "*").Replace(l)
				names = append(names, l+"."+z, "x."+l+"."+z, "x.y."+strings.TrimPrefix(l, "*.")+"."+z)
				for range 3 {
					names = append(names, fmt.Sprintf("alias%d.%s.%s", rand.IntN(99), l, z), fmt.Sprintf("over%d.%s.%s", rand.IntN(9), l, z))
				}
			}
			names = append(names, "cut1."+z, "cut5.host."+z)
		}
		names = append(names, "zone1.example.org", "zone17.example.org", "example.com", "www.example.com", "net")
		// tinydns may not be there yet.
		up := new(dns.Msg).SetQuestion("example.net.", dns.TypeSOA)
		for tries := 0; askFrom(t, "127.0.0.1", theirs, "udp", up, 200*time.Millisecond) == nil; tries++ {
			if tries == 100 {
				t.Fatal("tinydns does not answer")
			}
			time.Sleep(20 * time.Millisecond)
		}
		for _, name := range names {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeTXT, dns.TypePTR, dns.TypeAAAA, dns.TypeSRV, dns.TypeCNAME, dns.TypeANY} {
				from := []string{"127.0.0.1", "127.0.1.7", "127.9.0.1"}[asked%3]
				q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
				q.RecursionDesired = false
				network := "udp"
				if qtype == dns.TypeANY {
					network = "tcp" // by UDP we give one RRset (RFC 8482)
				}
				mine := askFrom(t, from, ours, network, q, 10*time.Second)
				if mine == nil {
					t.Fatalf("%s: no answer from us", name)
				}
				wait := 10 * time.Second
				if mine.Rcode == dns.RcodeRefused {
					wait = 20 * time.Millisecond
				}
				other := askFrom(t, from, theirs, "udp", q, wait)
				asked++
				if len(mine.Answer) > 0 {
					answered++
				}
				if d := tinydnsDiffers(q.Question[0], mine, other, used); d != "" {
					t.Errorf("seed %d, from %s: %s differs\nours: %s\ntinydns: %s", seed, from, d, mine, other)
				}
			}
		}
	}
	t.Logf("%d questions, %d with an answer; allowed: %v", asked, answered, used)
	if answered < asked/20 {
		t.Errorf("only %d of %d questions had an answer", answered, asked)
	}
}
