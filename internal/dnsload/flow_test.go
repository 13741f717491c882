package dnsload

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/zonecast/zonecast/record"
)

// scripted is a worker without a socket, and its only flow.
func scripted(t testing.TB, names ...string) (*worker, *flow) {
	q := &Queries{}
	for _, n := range names {
		q.add(name(t, n), record.TypeA, Encoding{})
	}
	f := newFlow(slotsFor(0))
	f.most = len(f.slots)
	return &worker{config: Config{Timeout: time.Second}.WithDefaults(), queries: q, flows: []*flow{f}, quota: 1 << 40}, f
}

// ask sends n queries to nowhere and gives them back.
func ask(w *worker, f *flow, n int, now int64) (sent []slot) {
	n = w.fill(f, n, now)
	w.account(f, n, n, now)
	for _, s := range w.picked[:n] {
		sent = append(sent, *s)
	}
	return sent
}

// answerTo is a good response to s.
func answerTo(w *worker, s slot) []byte {
	m := append([]byte(nil), w.queries.message(s.query)...)
	binary.BigEndian.PutUint16(m, s.id)
	m[2] |= 0x80
	return m
}

func TestHeard(t *testing.T) {
	const ms = int64(time.Millisecond)
	for _, tt := range []struct {
		name string
		// what comes to the first of two queries sent at 0, and when
		mangle func(m []byte) []byte
		at     int64
		twice  bool
		want   Counts
	}{
		{name: "answered", at: ms, want: Counts{Answered: 1}},
		{name: "just in time", at: 1000 * ms, want: Counts{Answered: 1}},
		{name: "late before anybody looked", at: 1001 * ms, want: Counts{Lost: 1, Late: 1}},
		{name: "twice", at: ms, twice: true, want: Counts{Answered: 1, Unexpected: 1}},
		{name: "late twice", at: 1001 * ms, twice: true, want: Counts{Lost: 1, Late: 1, Unexpected: 1}},
		{name: "no header", at: ms, mangle: func(m []byte) []byte { return m[:11] }, want: Counts{Malformed: 1}},
		{name: "empty", at: ms, mangle: func(m []byte) []byte { return m[:0] }, want: Counts{Malformed: 1}},
		{name: "a query", at: ms, mangle: func(m []byte) []byte { m[2] &^= 0x80; return m }, want: Counts{Malformed: 1}},
		{name: "question cut off", at: ms, mangle: func(m []byte) []byte { return m[:len(m)-1] }, want: Counts{Malformed: 1}},
		{name: "two questions", at: ms, mangle: func(m []byte) []byte { m[5] = 2; return m }, want: Counts{Malformed: 1}},
		{name: "no question and no error", at: ms, mangle: func(m []byte) []byte { m[5] = 0; return m[:12] }, want: Counts{Malformed: 1}},
		{name: "no question in FORMERR", at: ms, mangle: func(m []byte) []byte { m[5], m[3] = 0, 1; return m[:12] }, want: Counts{Answered: 1}},
		{name: "other id", at: ms, mangle: func(m []byte) []byte { m[0] ^= 0x40; return m }, want: Counts{Unexpected: 1}},
		{name: "other name", at: ms, mangle: func(m []byte) []byte { m[13]++; return m }, want: Counts{Unexpected: 1}},
		{name: "other type", at: ms, mangle: func(m []byte) []byte { m[len(m)-3] = 28; return m }, want: Counts{Unexpected: 1}},
		{name: "other case", at: ms, mangle: func(m []byte) []byte { m[13] -= 'a' - 'A'; return m }, want: Counts{Answered: 1}},
		{name: "truncated", at: ms, mangle: func(m []byte) []byte { m[2] |= 2; return m }, want: Counts{Answered: 1, Truncated: 1}},
		{name: "three records", at: ms, mangle: func(m []byte) []byte { m[7] = 3; return m }, want: Counts{Answered: 1, Records: 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, f := scripted(t, "www.example.net", "a.example.net")
			sent := ask(w, f, 2, 0)
			m := answerTo(w, sent[0])
			if tt.mangle != nil {
				m = tt.mangle(m)
			}
			times := uint64(1)
			w.heard(f, m, tt.at)
			if tt.twice {
				times++
				w.heard(f, m, tt.at)
			}
			want := tt.want
			want.Sent, want.BytesSent = 2, uint64(len(w.queries.arena))
			want.BytesReceived = times * uint64(len(m))
			if want.Answered > 0 {
				want.Rcodes[m[3]&15] = 1
			}
			if got := w.recent.Counts; got != want {
				t.Errorf("counted %+v\nwant    %+v", got, want)
			}
			if done := int(want.Answered + want.Lost); f.out != 2-done || w.out != 2-done {
				t.Errorf("%d and %d outstanding after %d were done", f.out, w.out, done)
			}
			if n := w.recent.Latency.Count(); n != want.Answered {
				t.Errorf("%d latencies of %d answers", n, want.Answered)
			}
		})
	}
}

// An answer is late when its query was given up, until the id is used again.
func TestLostAndLate(t *testing.T) {
	w, f := scripted(t, "www.example.net")
	sent := ask(w, f, 3, 0)
	w.sweep(int64(time.Second)) // not yet
	if w.recent.Lost != 0 {
		t.Fatal("lost before the timeout")
	}
	w.sweep(int64(time.Second) + 1)
	if w.recent.Lost != 3 || f.out != 0 || w.out != 0 {
		t.Fatalf("%d lost, %d outstanding", w.recent.Lost, f.out)
	}
	w.heard(f, answerTo(w, sent[0]), int64(1500*time.Millisecond))
	if w.recent.Late != 1 || w.recent.Lost != 3 || w.recent.Answered != 0 {
		t.Fatalf("after a late answer: %+v", w.recent.Counts)
	}
	// The ids of the two that may still be answered late are used last.
	now := int64(2 * time.Second)
	for left := len(f.slots) - 2; left > 0; {
		n := len(ask(w, f, min(left, batch), now))
		if n == 0 {
			t.Fatalf("no id while %d are free", left)
		}
		left -= n
	}
	w.heard(f, answerTo(w, sent[1]), now)
	if w.recent.Late != 2 {
		t.Fatal("a late answer is not told while its id is kept")
	}
	if n := len(ask(w, f, 3, now)); n != 2 {
		t.Fatalf("%d more ids, want 2: that of the answered, and in need that of the lost one", n)
	}
}

// In the open loop latency counts from the schedule, however late the generator is
// itself, and nothing leaves before it is due.
func TestScheduleIsCharged(t *testing.T) {
	const ms = int64(time.Millisecond)
	w, f := scripted(t, "www.example.net")
	w.gap, w.offset = float64(10*ms), float64(5*ms)
	for _, tt := range []struct {
		now  int64
		want int
	}{{0, 0}, {5*ms - 1, 0}, {5 * ms, 1}, {15*ms - 1, 1}, {15 * ms, 2}, {1005 * ms, batch}} {
		if got := w.budget(0, f, tt.now); got != tt.want {
			t.Errorf("at %d ns %d are to leave, want %d", tt.now, got, tt.want)
		}
	}
	sent := ask(w, f, 3, 50*ms)
	w.heard(f, answerTo(w, sent[0]), 60*ms)
	w.heard(f, answerTo(w, sent[2]), 60*ms)
	// Due at 5 and 25 ms; sent at 50.
	if got := w.recent.Latency.Max(); got != 55*time.Millisecond {
		t.Errorf("the first took %v, want 55ms", got)
	}
	if got := w.recent.Latency.Mean(); got != 45*time.Millisecond {
		t.Errorf("both took %v in the mean, want 45ms", got)
	}
	if got := w.lag.Max(); got != 45*time.Millisecond || w.lag.Count() != 3 {
		t.Errorf("%d queries late by up to %v, want 3 and 45ms", w.lag.Count(), got)
	}
	if got := w.budget(0, f, 50*ms); got != 2 { // at 35 and 45 ms
		t.Errorf("%d more are to leave at 50ms, want 2", got)
	}
}

// Every slot is used before there is none, and what the kernel does not take is
// asked again.
func TestIdsAndTakingBack(t *testing.T) {
	w, f := scripted(t, "a.example.net", "b.example.net", "c.example.net")
	n := w.fill(f, 4, 0)
	w.account(f, n, 2, 0)
	if w.next != 2 || f.out != 2 || w.sent != 2 || w.recent.Held != 1 {
		t.Fatalf("after 2 of 4: next %d, out %d, sent %d, held %d", w.next, f.out, w.sent, w.recent.Held)
	}
	for f.out < len(f.slots) {
		if got := len(ask(w, f, batch, 0)); got == 0 {
			t.Fatalf("no id with %d of %d outstanding", f.out, len(f.slots))
		}
	}
	if got := ask(w, f, 1, 0); got != nil {
		t.Fatal("an id twice")
	}
	seen := map[uint16]bool{}
	for i := range f.slots {
		s := &f.slots[i]
		if s.state != waiting || seen[s.id&f.mask] {
			t.Fatalf("slot %d: %+v", i, *s)
		}
		seen[s.id&f.mask] = true
	}
}

// Between a query and its answer the generator allocates nothing.
func TestNoAllocation(t *testing.T) {
	w, f := scripted(t, "www.example.net")
	m := make([]byte, 512)
	now := int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += 1000
		n := w.fill(f, batch, now)
		w.account(f, n, n, now)
		for _, s := range w.picked[:n] {
			size := w.put(m, s)
			m[2] |= 0x80
			w.heard(f, m[:size], now+500)
		}
	}); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
	if w.recent.Answered == 0 || w.recent.Answered != w.recent.Sent {
		t.Errorf("%+v", w.recent.Counts)
	}
}

// BenchmarkQuery is what a query costs the generator besides the kernel.
func BenchmarkQuery(b *testing.B) {
	w, f := scripted(b, "web04166.abc2.prod.example.net")
	m := make([]byte, 512)
	for i := 0; i < b.N; i += batch {
		now := int64(i)
		n := w.fill(f, batch, now)
		w.account(f, n, n, now)
		for _, s := range w.picked[:n] {
			size := w.put(m, s)
			m[2] |= 0x80
			w.heard(f, m[:size], now+500)
		}
	}
}
