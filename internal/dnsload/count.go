package dnsload

import "time"

// Counts of queries and responses. Every query sent is answered or lost.
type Counts struct {
	Sent     uint64
	Answered uint64 // in time
	Lost     uint64 // not answered within the timeout
	Late     uint64 // of Lost: answered after it
	// Unexpected responses have an id that nobody waits for or another question:
	// duplicates, mostly.
	Unexpected uint64
	Malformed  uint64 // responses shorter than they say, or no responses at all
	Truncated  uint64 // of Answered: with the TC bit
	Refused    uint64 // times that the target's machine said that nobody listens
	Reconnects uint64 // TCP connections that ended and were made anew
	Records    uint64 // in the answer sections of Answered
	// BytesSent and BytesReceived count octets of messages, without the headers
	// below them.
	BytesSent     uint64
	BytesReceived uint64
	// Held counts times that a due query could not leave, as all ids of the sockets
	// were waiting for answers or the kernel took no more.
	Held   uint64
	Rcodes [16]uint64 // of Answered, by the header's four bits
}

func (c *Counts) add(o *Counts) {
	for _, x := range []struct{ to, from *uint64 }{
		{&c.Sent, &o.Sent},
		{&c.Answered, &o.Answered},
		{&c.Lost, &o.Lost},
		{&c.Late, &o.Late},
		{&c.Unexpected, &o.Unexpected},
		{&c.Malformed, &o.Malformed},
		{&c.Truncated, &o.Truncated},
		{&c.Refused, &o.Refused},
		{&c.Reconnects, &o.Reconnects},
		{&c.Records, &o.Records},
		{&c.BytesSent, &o.BytesSent},
		{&c.BytesReceived, &o.BytesReceived},
		{&c.Held, &o.Held},
	} {
		*x.to += *x.from
	}
	for i, n := range o.Rcodes {
		c.Rcodes[i] += n
	}
}

// Interval is what happened in a part of a run.
type Interval struct {
	Counts
	Latency Histogram     // of Answered
	From    time.Duration // since the start of the run
	To      time.Duration
}

func (v *Interval) merge(o *Interval) {
	v.add(&o.Counts)
	v.Latency.merge(&o.Latency)
}

// Result is what a run measured.
type Result struct {
	Counts
	Latency Histogram // of Answered; from when they were due (open loop) or sent
	// Lag is how much later than due queries left: the generator's own part of
	// Latency. Empty in the closed loop.
	Lag Histogram
	// Due is how many queries the schedule had; 0 in the closed loop.
	Due uint64
	// Took is how long queries were sent.
	Took time.Duration
	// DroppedHere counts responses that this machine threw away because the
	// generator's sockets were full: the server has answered them.
	DroppedHere uint64
	ClientCPU   time.Duration // of the threads
	ServerCPU   time.Duration // of Config.ServerPIDs
	ServerKnown bool          // ServerCPU was measured
	// ThreadsEnded counts threads of the server that ended meanwhile, whose time
	// ServerCPU lacks.
	ThreadsEnded int
}

// KeptSchedule tells whether the generator sent what was due: at least 99 % of it,
// nine of ten queries less than a millisecond late. Otherwise the figures are the
// generator's more than the server's.
func (r *Result) KeptSchedule() bool {
	return float64(r.Sent) >= 0.99*float64(r.Due) && r.Lag.Quantile(0.9) < time.Millisecond
}

// AnsweredRate is answers in a second.
func (r *Result) AnsweredRate() float64 { return perSecond(r.Answered, r.Took) }

// SentRate is queries sent in a second.
func (r *Result) SentRate() float64 { return perSecond(r.Sent, r.Took) }

func perSecond(n uint64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}
