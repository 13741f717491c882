package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/zonecast/zonecast/internal/dnsload"
)

// compareView is what --expect found, as JSON.
type compareView struct {
	Target string        `json:"target"`
	Asked  int           `json:"asked"`
	Right  int           `json:"right"`
	Wrong  []findingView `json:"wrong"`
}

type findingView struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

// countsView are counts of queries and answers as JSON.
type countsView struct {
	Sent       uint64            `json:"sent"`
	Answered   uint64            `json:"answered"`
	Lost       uint64            `json:"lost"`
	Late       uint64            `json:"late"` // of lost
	Unexpected uint64            `json:"unexpected"`
	Malformed  uint64            `json:"malformed"`
	Truncated  uint64            `json:"truncated"`
	Refused    uint64            `json:"refused"`
	Reconnects uint64            `json:"reconnects"`
	Rcodes     map[string]uint64 `json:"rcodes"`
	Records    uint64            `json:"records"`
	BytesOut   uint64            `json:"bytes_sent"`
	BytesIn    uint64            `json:"bytes_received"`
}

func viewCounts(c *dnsload.Counts) countsView {
	v := countsView{
		c.Sent, c.Answered, c.Lost, c.Late, c.Unexpected, c.Malformed, c.Truncated, c.Refused, c.Reconnects,
		map[string]uint64{},
		c.Records, c.BytesSent, c.BytesReceived,
	}
	for code, n := range c.Rcodes {
		if n > 0 {
			v.Rcodes[dnsload.RcodeName(code)] = n
		}
	}
	return v
}

// quantilesView are those of a histogram as JSON, in microseconds.
type quantilesView struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

func viewQuantiles(h *dnsload.Histogram) quantilesView {
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	return quantilesView{us(h.Mean()), us(h.Quantile(.5)), us(h.Quantile(.9)), us(h.Quantile(.99)), us(h.Quantile(.999)), us(h.Max())}
}

func (q quantilesView) String() string {
	d := func(us float64) string { return micros(time.Duration(us * 1e3)) }
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", d(q.P50), d(q.P90), d(q.P99), d(q.P999), d(q.Max))
}

// micros is a duration as people read latencies: four digits at the most.
func micros(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f µs", float64(d)/1e3)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// intervalView is a part of a measurement as JSON.
type intervalView struct {
	From    float64       `json:"from"` // seconds since the start
	To      float64       `json:"to"`
	Counts  countsView    `json:"counts"`
	Latency quantilesView `json:"latency_us"`
}

func viewInterval(v dnsload.Interval) intervalView {
	return intervalView{v.From.Seconds(), v.To.Seconds(), viewCounts(&v.Counts), viewQuantiles(&v.Latency)}
}

// benchView is a measurement as JSON.
type benchView struct {
	Target    string  `json:"target"`
	Transport string  `json:"transport"`
	Loop      string  `json:"loop"`
	Rate      float64 `json:"rate,omitempty"`   // wanted queries/s of the open loop
	Window    int     `json:"window,omitempty"` // outstanding in the closed loop
	Threads   int     `json:"threads"`
	Sockets   int     `json:"sockets"`
	Seconds   float64 `json:"seconds"`
	countsView
	SentRate     float64        `json:"sent_per_second"`
	AnsweredRate float64        `json:"answered_per_second"`
	Latency      quantilesView  `json:"latency_us"`
	Due          uint64         `json:"due,omitempty"`
	Kept         *bool          `json:"kept_schedule,omitempty"`
	Lag          *quantilesView `json:"lag_us,omitempty"`
	DroppedHere  uint64         `json:"dropped_here"`
	Client       float64        `json:"client_us"`           // CPU a query sent, of the generator
	Server       *float64       `json:"server_us,omitempty"` // CPU an answer, of --server-pid
	Notes        []string       `json:"notes"`
}

func viewBench(c dnsload.Config, r *dnsload.Result) benchView {
	v := benchView{
		Target: c.Target.String(), Transport: "udp", Loop: "closed", Threads: c.Threads, Sockets: c.Sockets,
		Seconds: r.Took.Seconds(), countsView: viewCounts(&r.Counts), SentRate: r.SentRate(), AnsweredRate: r.AnsweredRate(),
		Latency: viewQuantiles(&r.Latency), DroppedHere: r.DroppedHere, Notes: r.Notes(),
	}
	if c.TCP {
		v.Transport = "tcp"
	}
	if c.Rate > 0 {
		kept, lag := r.KeptSchedule(), viewQuantiles(&r.Lag)
		v.Loop, v.Rate, v.Due, v.Kept, v.Lag = "open", c.Rate, r.Due, &kept, &lag
	} else {
		v.Window = c.Window
	}
	if r.Sent > 0 {
		v.Client = float64(r.ClientCPU.Nanoseconds()) / 1e3 / float64(r.Sent)
	}
	if r.ServerKnown && r.Answered > 0 {
		us := float64(r.ServerCPU.Nanoseconds()) / 1e3 / float64(r.Answered)
		v.Server = &us
	}
	return v
}

func (v benchView) write(w io.Writer) {
	how := fmt.Sprintf("%d outstanding (closed loop)", v.Window)
	if v.Loop == "open" {
		how = fmt.Sprintf("%.0f queries/s (open loop)", v.Rate)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("target", "%s over %s, %s, %s, %s, %.2f s", v.Target, strings.ToUpper(v.Transport), how, count(v.Threads, "thread"), count(v.Sockets, "socket"), v.Seconds)
	row("queries", "%d sent, %d answered, %d lost, of them %d late", v.Sent, v.Answered, v.Lost, v.Late)
	if v.Unexpected+v.Malformed+v.Truncated+v.Refused+v.Reconnects > 0 {
		row("odd", "%d unexpected, %d malformed, %d truncated, %d refused, %d reconnects", v.Unexpected, v.Malformed, v.Truncated, v.Refused, v.Reconnects)
	}
	row("rate", "%.0f answered/s, %.0f sent/s", v.AnsweredRate, v.SentRate)
	row("latency", "%s", v.Latency)
	if v.Lag != nil {
		row("lag", "%s  (part of latency: how late the generator was)", *v.Lag)
	}
	if v.Answered > 0 {
		row("answers", "%s; %.2f records, %.1f octets each", v.rcodes(), float64(v.Records)/float64(v.Answered), float64(v.BytesIn)/float64(v.Answered))
	}
	cpu := fmt.Sprintf("%.3f µs a query here", v.Client)
	if v.Server != nil {
		cpu += fmt.Sprintf(", %.3f µs an answer at the server", *v.Server)
	}
	row("cpu", "%s", cpu)
	t.Flush()
	for _, n := range v.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

// rcodes lists the response codes, the most frequent first.
func (v benchView) rcodes() string {
	var names []string
	for name := range v.Rcodes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if v.Rcodes[a] != v.Rcodes[b] {
			return int(min(max(int64(v.Rcodes[b])-int64(v.Rcodes[a]), -1), 1))
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, v.Rcodes[name])
	}
	return strings.Join(names, ", ")
}
