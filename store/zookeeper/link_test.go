package zookeeper

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// TestClientsSpread: each client begins at any server of the ensemble, and goes through all of
// them; else the first named would have the whole fleet.
func TestClientsSpread(t *testing.T) {
	servers := []string{"192.0.2.1:2181", "192.0.2.2:2181", "192.0.2.3:2181"}
	first := map[string]int{}
	for range 300 {
		h := &hosts{}
		if err := h.Init(servers); err != nil {
			t.Fatal(err)
		}
		var round []string
		for range h.Len() {
			s, again := h.Next()
			if again {
				t.Fatalf("a round is over after %v", round)
			}
			round = append(round, s)
		}
		first[round[0]]++
		slices.Sort(round)
		if !slices.Equal(round, servers) {
			t.Fatalf("a round is %v", round)
		}
		if _, again := h.Next(); !again {
			t.Fatal("no pause between rounds")
		}
	}
	for _, s := range servers {
		if n := first[s]; n < 50 { // of about 100: by chance once in 10^9 runs
			t.Errorf("%d of 300 clients begin at %s", n, s)
		}
	}
}

// TestReturnSpreads: the first rounds come at once; later ones within the spread, by chance, so that
// a fleet that lost its servers does not come back within a second.
func TestReturnSpreads(t *testing.T) {
	const most = 10 * time.Second
	h := &hosts{}
	if err := h.Init([]string{"192.0.2.1:2181", "192.0.2.2:2181", "192.0.2.3:2181"}); err != nil {
		t.Fatal(err)
	}
	for round := range 8 {
		for i := range h.Len() {
			h.Next()
			if d := h.pause(0); d != 0 {
				t.Fatalf("a client that is not one of many pauses %v", d)
			}
			var shortest, longest time.Duration = most, 0
			for range 1000 {
				d := h.pause(most)
				shortest, longest = min(shortest, d), max(longest, d)
			}
			if round < quickRounds || i > 0 {
				if longest > 0 || h.away() != (round >= quickRounds) {
					t.Fatalf("try %d of round %d: a pause of %v, away %v", i, round, longest, h.away())
				}
				continue
			}
			within := min(most, firstSpread<<(round-quickRounds))
			if longest > within || longest < within*9/10 || shortest > within/10 { // by chance once in 10^45 runs
				t.Errorf("round %d: pauses of %v to %v, expected all up to %v", round, shortest, longest, within)
			}
		}
	}
	h = &hosts{servers: h.servers, before: h.rounds()} // made anew
	if h.Next(); !h.away() || h.pause(most) != 0 {
		t.Error("a new link pauses before its first try, or is thought to be near")
	}
	h.Connected()
	if h.Next(); h.away() || h.pause(most) != 0 {
		t.Error("a client that has had a server pauses")
	}
}

// TestLeaseWaits: what keeps a session alive tries no server while the store has none, and ends at
// once all the same.
func TestLeaseWaits(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{}, 100)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
			select {
			case came <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() { ln.Close() })
	var may atomic.Bool
	link := func() *link {
		l, err := dial(linkConfig{servers: []string{ln.Addr().String()}, timeout: time.Second, log: slog.New(slog.DiscardHandler), after: may.Load})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	waits := link()
	select {
	case <-came:
		t.Error("it tried a server")
	case <-time.After(3 * holdTick):
	}
	began := time.Now()
	waits.close()
	select {
	case <-waits.ended:
	case <-time.After(5 * time.Second):
		t.Errorf("not ended %v after its close", time.Since(began))
	}
	l := link()
	defer l.close()
	may.Store(true)
	select {
	case <-came:
	case <-time.After(10 * time.Second):
		t.Error("it tries no server though it may")
	}
}

// TestWatchesFirst: after a reconnection no answer is read before watches are set anew.
func TestWatchesFirst(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	l := &link{}
	l.closing, l.quit = context.WithCancel(context.Background())
	defer l.quit()
	s := &sock{Conn: ours, link: l, head: make([]byte, 12), holds: true, set: make(chan struct{})}
	defer s.Close()
	packet := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8, 0, 0, 0, 1}, opSetWatches)
	var written atomic.Bool
	read := make(chan bool, 1)
	go func() {
		_, _ = s.Read(make([]byte, 1))
		read <- written.Load()
	}()
	go func() { _, _ = theirs.Write([]byte{0}) }()
	go func() {
		written.Store(true)
		_, _ = s.Write(packet)
	}()
	if _, err := io.ReadFull(theirs, make([]byte, len(packet))); err != nil {
		t.Fatal(err)
	}
	if !<-read {
		t.Error("an answer was read before")
	}
}
