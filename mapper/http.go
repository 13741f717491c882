package mapper

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
)

// Report is what the last computation of this process came to.
type Report struct {
	Map     string `json:"map"`
	Leading bool   `json:"leading"`           // and computed: a follower knows no more than this
	Trouble string `json:"trouble,omitempty"` // why the map stays as it is

	Time     int64   `json:"time_ms,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	Prefixes int     `json:"prefixes,omitempty"`
	Entries  int     `json:"entries,omitempty"`
	Thin     int     `json:"thin,omitempty"` // round-trip times that too few measured

	Figures  *plan.Figures `json:"figures,omitempty"`
	Churn    *plan.Churn   `json:"churn,omitempty"`
	PoPs     []PoPReport   `json:"pops,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
}

// PoPReport is what the map gives a PoP.
type PoPReport struct {
	Name     string  `json:"name"`
	Load     float64 `json:"load"`
	Capacity float64 `json:"capacity"`
	Closed   bool    `json:"closed,omitempty"` // drained, down or without capacity
	Struck   int     `json:"struck,omitempty"` // round-trip times that light forbids
}

// Report tells it.
func (m *Mapper) Report() Report {
	m.mu.Lock()
	c, r := m.last, Report{Map: m.cfg.Map, Trouble: m.trouble}
	m.mu.Unlock()
	if c == nil {
		return r
	}
	r.Leading, r.Time, r.Seconds, r.Prefixes, r.Thin = true, c.at.UnixMilli(), c.took.Seconds(), len(c.in.Keys), c.in.Thin
	r.Figures, r.Churn, r.Warnings = &c.Figures, &c.Churn, c.warnings
	for _, g := range c.maps {
		r.Entries += len(g.Entries)
	}
	for j, p := range c.in.PoPs {
		r.PoPs = append(r.PoPs, PoPReport{p.Name, c.Figures.Load[j], p.Capacity, !p.Open(), c.filled.Struck[j]})
	}
	return r
}

// Explanation is why an address is served where it is.
type Explanation struct {
	Address string   `json:"address"`
	Prefix  string   `json:"prefix"` // that was measured or has demand; "" for everybody else
	Kind    string   `json:"kind"`   // client or resolver
	Demand  float64  `json:"demand"`
	Order   []string `json:"order"`
	Why     string   `json:"why"`
	PoPs    []Choice `json:"pops,omitempty"`
}

// Choice is one PoP for a prefix.
type Choice struct {
	Name   string  `json:"name"`
	MS     float64 `json:"ms"`
	From   string  `json:"from"`  // measured, or what it is estimated from
	Price  float64 `json:"price"` // milliseconds that room there is worth, 0 if the algorithm has no prices; -1: it is closed
	Chosen bool    `json:"chosen,omitempty"`
}

// Explain tells why an address is served where it is; false: nothing was computed here.
func (m *Mapper) Explain(a netip.Addr, resolver bool) (Explanation, bool) {
	m.mu.Lock()
	c := m.last
	m.mu.Unlock()
	if c == nil {
		return Explanation{}, false
	}
	return c.explain(a.Unmap(), resolver), true
}

func (c *computed) explain(a netip.Addr, resolver bool) Explanation {
	x := Explanation{Address: a.String(), Kind: "client"}
	if resolver {
		x.Kind = "resolver"
	}
	row := c.row(a, resolver)
	if row < 0 && resolver {
		row = c.row(a, false) // the map by resolvers has clients where no resolver was measured
	}
	if row < 0 {
		x.Order, x.Why = c.Names(c.Default), "in no prefix that was measured or has demand: nearest to all together"
		if row, from, o, ok := c.strangers.at(c, a); ok {
			x.Order, x.Why = c.Names(o), "in no prefix that was measured or has demand: nearest as far as is known, by "+from.String()
			x.PoPs = c.choices(row, func(int) string { return from.String() }, o)
		}
		return x
	}
	o := c.Orders[row]
	x.Prefix, x.Demand, x.Order, x.Why = c.in.Prefixes[row].String(), c.in.Demand[row], c.Names(o), c.why(row)
	x.PoPs = c.choices(c.in.Row(row), func(j int) string { return c.filled.Source(row, j).String() }, o)
	return x
}

// row is that of the longest prefix of a kind around an address; -1: none.
func (c *computed) row(a netip.Addr, resolver bool) int {
	best := -1
	for i, p := range c.in.Prefixes {
		if p.Contains(a) && c.in.resolver(i) == resolver && (best < 0 || p.Bits() > c.in.Prefixes[best].Bits()) {
			best = i
		}
	}
	return best
}

// why says what decided the first PoP of a row.
func (c *computed) why(i int) string {
	row, j := c.in.Row(i), int(c.Orders[i][0])
	if c.pins != nil && c.pins[i] == int16(j) {
		return "pinned to " + c.in.PoPs[j].Name
	}
	best := j
	for k, p := range c.in.PoPs {
		if p.Open() && row[k] < row[best] {
			best = k
		}
	}
	name := func(k int) string { return c.in.PoPs[k].Name }
	gain := float64(row[j]-row[best]) / 1000
	switch {
	case best == j && c.filled.Source(i, j) == fill.Measured:
		return name(j) + " is the nearest that is open"
	case best == j:
		return fmt.Sprintf("%s is the nearest that is open, as far as is known: by %s", name(j), c.filled.Source(i, j))
	case c.Home != nil && int(c.Home[i]) == j && row[j]-row[best] <= c.threshold(row[j]):
		return fmt.Sprintf("%s would be %.1f ms nearer, which is below the threshold of %.1f ms: who is at a PoP stays there", name(best), gain, float64(c.threshold(row[j]))/1000)
	case c.Prices != nil && c.Prices[best] > 0:
		return fmt.Sprintf("%s would be %.1f ms nearer and is full: its room is worth %.1f ms to others", name(best), gain, float64(c.Prices[best])/1000)
	}
	return fmt.Sprintf("%s would be %.1f ms nearer; that is put off by the bound on churn, or it has no room for a prefix of this size", name(best), gain)
}

// threshold is the hysteresis at a round-trip time, in microseconds.
func (c *computed) threshold(rtt int32) int32 {
	return max(int32(c.settings.Hysteresis.Microseconds()), int32(c.settings.HysteresisShare*float64(rtt)))
}

// Handler serves the Report as JSON, and with ?address=A the Explanation of an address, as that
// of a resolver with &resolver=1.
func (m *Mapper) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		var v any = m.Report()
		if text := r.URL.Query().Get("address"); text != "" {
			p, err := table.ParsePrefix(text)
			if err != nil || !p.IsSingleIP() {
				http.Error(w, fmt.Sprintf("address is %.80q, expected one such as 192.0.2.1", text), http.StatusBadRequest)
				return
			}
			x, ok := m.Explain(p.Addr(), r.URL.Query().Get("resolver") == "1")
			if !ok {
				http.Error(w, "nothing was computed by this process: another one leads, or the inputs are missing", http.StatusServiceUnavailable)
				return
			}
			v = x
		}
		w.Header().Set("Content-Type", "application/json")
		// The client may be gone: nobody is left to tell.
		_ = json.NewEncoder(w).Encode(v)
	})
}
