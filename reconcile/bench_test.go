package reconcile_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// fleet gives the claims of servers as rules make them, an A and a PTR each, in
// shards of 100 servers, below a zone for the names and one for each /16.
func fleet(servers int) map[shardID][]record.Claim {
	shards := map[shardID][]record.Claim{{"zone/example.net", "1"}: {{RRset: record.NewRRset(name("example.net."), record.TypeSOA, 300, soa(1)), Source: "zone/example.net"}}}
	for i := range servers {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], 10<<24+uint32(i))
		host := name(fmt.Sprintf("host%06d.example.net.", i))
		reverse := name(fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", ip[3], ip[2], ip[1], ip[0]))
		place := fmt.Sprintf("server host%06d", i)
		prov := record.Provenance{Author: "registry", Time: time.UnixMilli(1e12).UTC(), Revision: "7"}
		id := shardID{"rule/address", fmt.Sprint(i / 100)}
		shards[id] = append(shards[id], record.Claim{RRset: record.NewRRset(host, record.TypeA, 300, record.Rdata(ip[:])), Source: id.source, Place: place, Provenance: prov})
		id = shardID{"rule/ptr", fmt.Sprint(i / 100)}
		shards[id] = append(shards[id], record.Claim{RRset: record.NewRRset(reverse, record.TypePTR, 300, record.Rdata(host)), Source: id.source, Place: place, Provenance: prov})
		if i%65536 == 0 {
			zone := name(fmt.Sprintf("%d.%d.in-addr.arpa.", ip[1], ip[0]))
			shards[id] = append(shards[id], record.Claim{RRset: record.NewRRset(zone, record.TypeSOA, 300, soa(1)), Source: id.source, Fallback: true})
		}
	}
	return shards
}

func load(shards map[shardID][]record.Claim) *reconcile.State {
	s := reconcile.New(reconcile.DefaultPolicy())
	for id, claims := range shards {
		s.Replace(id.source, id.shard, claims)
	}
	return s
}

// BenchmarkFull reconciles 500,000 claims of 250,000 servers from nothing, shards in
// random order.
func BenchmarkFull(b *testing.B) {
	shards := fleet(250_000)
	var before, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		s := load(shards)
		if ch := s.Reconcile(); len(ch.Put) < 500_000 {
			b.Fatalf("%d RRsets", len(ch.Put))
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(s.Claims()), "B/claim")
		b.StartTimer()
	}
}

// BenchmarkOneClaim changes the address of one of 250,000 servers: a shard of 100
// claims is replaced by one that differs in one claim.
func BenchmarkOneClaim(b *testing.B) {
	shards := fleet(250_000)
	s := load(shards)
	s.Reconcile()
	id := shardID{"rule/address", "1234"}
	old := shards[id]
	other := append([]record.Claim(nil), old...)
	other[50].RRset = record.NewRRset(other[50].Owner, record.TypeA, 300, "\xc0\x00\x02\x01")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now := other
		if i%2 == 1 {
			now = old
		}
		s.Replace(id.source, id.shard, now)
		if ch := s.Reconcile(); len(ch.Put) != 1 {
			b.Fatalf("change is %v", ch)
		}
	}
}
