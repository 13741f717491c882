package dnsload

import (
	"fmt"
	"time"
)

// Notes say in words what in the Result is the generator's own doing, and what to do
// about it; none when the figures are the server's.
func (r *Result) Notes() []string {
	notes := []string{}
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if r.Due > 0 && !r.KeptSchedule() {
		note("the generator did not keep its schedule: of %d queries that were due %d left, one of ten by %v or more too late; these figures are its own more than the server's: use a lower rate, or more threads on free CPUs",
			r.Due, r.Sent, r.Lag.Quantile(.9).Round(time.Microsecond))
	}
	if q, text, ok := r.lagShows(); ok && r.KeptSchedule() {
		note("from %s up latencies are the generator's own as much as the server's: it was %v late where latency is %v: give it a CPU of its own (more threads, or cpus)",
			text, r.Lag.Quantile(q).Round(time.Microsecond), r.Latency.Quantile(q).Round(time.Microsecond))
	}
	if r.Due > 0 && r.Held > 0 {
		note("queries were held back %d times, as every query id was waiting for an answer or the kernel took no more: use more sockets or a shorter timeout", r.Held)
	}
	if r.DroppedHere > 0 {
		note("%d answers were dropped on this machine as the generator's sockets were full; they count as lost, but not by the server: use more sockets, or raise net.core.rmem_max", r.DroppedHere)
	}
	if r.ThreadsEnded > 0 {
		note("%d threads of the server ended meanwhile, whose CPU time is not known: the server's is too low", r.ThreadsEnded)
	}
	return notes
}

// lagShows finds the first quantile where at least half of the latency is lag, and
// the lag more than what a wake-up costs anyway.
func (r *Result) lagShows() (q float64, text string, ok bool) {
	const wakeUp = 100 * time.Microsecond
	for _, x := range []struct {
		q    float64
		text string
	}{{.5, "p50"}, {.9, "p90"}, {.99, "p99"}, {.999, "p99.9"}} {
		if lag := r.Lag.Quantile(x.q); lag > wakeUp && 2*lag >= r.Latency.Quantile(x.q) {
			return x.q, x.text, true
		}
	}
	return 0, "", false
}

// rcodeNames are the mnemonics of RFC 6895 §2.3 for the header's four bits.
var rcodeNames = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"}

// RcodeName is the mnemonic of a response code, or RCODEnnn.
func RcodeName(rcode int) string {
	switch {
	case rcode >= 0 && rcode < len(rcodeNames):
		return rcodeNames[rcode]
	case rcode == 16:
		return "BADVERS"
	case rcode == 23:
		return "BADCOOKIE"
	}
	return fmt.Sprintf("RCODE%d", rcode)
}
