package zoneload

import (
	"context"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// gatherer takes the records of one file after another; what it allocated for one
// serves the next.
type gatherer struct {
	ctx     context.Context
	scanner dnswire.ZoneScanner
	octets  []byte // owners and RDATA
	runs    []run
	records []gathered
	apex    record.Name

	order []place // of runs
	one   []gathered
}

// run is consecutive records of one owner.
type run struct {
	owner uint32 // index in octets, where the name starts: it ends itself
	first uint32 // index in records
}

// gathered is a record.
type gathered struct {
	rdata  uint32 // index in octets
	ttl    uint32
	run    uint32
	length uint16 // of the RDATA
	t      record.Type
}

// reset makes room for a file of size octets as zone files mostly are: 24 octets a
// record and 32 an owner, and the names with their origin. Room that is not used
// costs nothing, as the system gives pages when they are written to; growing would
// write all of them a second time.
func (g *gatherer) reset(ctx context.Context, size int64) {
	g.ctx, g.apex = ctx, ""
	n := int(min(size, maxRoom))
	g.octets, g.runs, g.records = room(g.octets, n+n/2), room(g.runs, n/32), room(g.records, n/24)
	g.order = room(g.order, n/32)
}

// maxRoom is the size of file, in octets, that room is made for beforehand.
const maxRoom = 64 << 20

func room[T any](s []T, n int) []T {
	if cap(s) >= n {
		return s[:0]
	}
	return make([]T, 0, n)
}

// add is what dnswire.ScanZone calls. Its bound on octets keeps the indices within
// 32 bits.
func (g *gatherer) add(r *dnswire.ZoneRecord) error {
	if len(g.records)&(1<<16-1) == 0 && g.ctx.Err() != nil {
		return g.ctx.Err()
	}
	if r.Type == record.TypeSOA {
		if g.apex != "" && string(g.apex) != string(r.Owner) {
			return errRefused
		}
		g.apex = record.Name(r.Owner)
	}
	if !r.SameOwner {
		g.runs = append(g.runs, run{uint32(len(g.octets)), uint32(len(g.records))})
		g.octets = append(g.octets, r.Owner...)
	}
	g.records = append(g.records, gathered{uint32(len(g.octets)), r.TTL, uint32(len(g.runs) - 1), uint16(len(r.Rdata)), r.Type})
	g.octets = append(g.octets, r.Rdata...)
	return nil
}

// name is the name at octets[at:].
func (g *gatherer) name(at uint32) []byte {
	i := at
	for g.octets[i] != 0 {
		i += uint32(g.octets[i]) + 1
	}
	return g.octets[at : i+1]
}

func (g *gatherer) data(r *gathered) []byte { return g.octets[r.rdata : r.rdata+uint32(r.length)] }

// of gives the records of a run.
func (g *gatherer) of(run uint32) []gathered {
	end := len(g.records)
	if int(run)+1 < len(g.runs) {
		end = int(g.runs[run+1].first)
	}
	return g.records[g.runs[run].first:end]
}

// finish sorts what was gathered, checks it and makes the body of z.
func (g *gatherer) finish(z *Zone) error {
	if g.apex == "" {
		return errRefused
	}
	if !g.sort() {
		return errRefused
	}
	w := writer{g: g}
	w.b.Grow(g.size())
	for i := 0; i < len(g.order); {
		owner := g.name(g.runs[g.order[i].run].owner)
		g.one = append(g.one[:0], g.of(g.order[i].run)...)
		for i++; i < len(g.order) && g.order[i].again; i++ {
			g.one = append(g.one, g.of(g.order[i].run)...)
		}
		if !w.node(owner, g.one) {
			return errRefused
		}
	}
	z.Apex, z.Records, z.Sets, z.body = g.apex, w.records, w.sets, w.b.String()
	return nil
}

// size is what the body has at most.
func (g *gatherer) size() int {
	return len(g.octets) + nodeHead*len(g.runs) + (setHead+rdataHead)*len(g.records)
}

// below tells whether a name is apex or below it.
func below(name []byte, apex record.Name) bool {
	cut := len(name) - len(apex)
	if cut < 0 || string(name[cut:]) != string(apex) {
		return false
	}
	i := 0
	for i < cut {
		i += int(name[i]) + 1
	}
	return i == cut
}
