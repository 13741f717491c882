//go:build interop && linux

package viptest

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// load asks the VIP who answers, from many sockets, each at its own pace: ECMP spreads them.
type load struct {
	t       *testing.T
	stop    chan struct{}
	g       sync.WaitGroup
	every   time.Duration
	timeout time.Duration

	mu       sync.Mutex // guards below
	answered map[string]int
	lost     []time.Time // when the lost ones were sent
	sent     int
}

// lossAfter is when a query counts as lost: hosts answer in less than a millisecond, and the
// machine may be busy.
const lossAfter = 2 * time.Second

// startLoad begins. Each of the sockets sends a query, waits for the answer or for lossAfter, and
// goes on after every.
func startLoad(l *lab, vip string, sockets int, every time.Duration) *load {
	l.t.Helper()
	q := &load{t: l.t, stop: make(chan struct{}), every: every, timeout: lossAfter, answered: map[string]int{}}
	conns := make([]*net.UDPConn, sockets)
	err := l.client.Do(func() (err error) {
		for i := range conns {
			if conns[i], err = net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(vip), Port: 53}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	for i, c := range conns {
		q.g.Go(func() {
			defer c.Close()
			q.socket(c, uint16(i))
		})
	}
	l.t.Cleanup(func() { q.end() })
	return q
}

// socket sends queries on time, whether the ones before were answered or not.
func (q *load) socket(c *net.UDPConn, id uint16) {
	var mu sync.Mutex // guards below
	open := map[uint16]time.Time{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, err := c.Read(buf)
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			m := new(dns.Msg)
			if err != nil || m.Unpack(buf[:n]) != nil || len(m.Answer) != 1 {
				continue // a refusal (ICMP) or a wrong answer is no answer
			}
			txt, ok := m.Answer[0].(*dns.TXT)
			mu.Lock()
			_, waited := open[m.Id]
			delete(open, m.Id)
			mu.Unlock()
			if ok && waited {
				q.mu.Lock()
				q.answered[txt.Txt[0]]++
				q.mu.Unlock()
			}
		}
	}()
	t := time.NewTicker(q.every)
	defer t.Stop()
	for n := uint16(0); ; n++ {
		select {
		case <-q.stop:
			end := time.Now().Add(q.timeout)
			for time.Now().Before(end) {
				mu.Lock()
				left := len(open)
				mu.Unlock()
				if left == 0 {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			_ = c.SetReadDeadline(time.Unix(1, 0))
			<-done
			q.mu.Lock()
			for _, at := range open {
				q.lost = append(q.lost, at)
			}
			q.mu.Unlock()
			return
		case <-t.C:
		}
		m := new(dns.Msg).SetQuestion("who.example.net.", dns.TypeTXT)
		m.Id = n
		b, err := m.Pack()
		if err != nil {
			panic(err) // a constant
		}
		now := time.Now()
		mu.Lock()
		open[m.Id] = now
		mu.Unlock()
		q.mu.Lock()
		q.sent++
		q.mu.Unlock()
		_, _ = c.Write(b) // an error is of the query before; this one is lost, or sent again by nobody
	}
}

// end stops, and gives what became of all.
func (q *load) end() (answered map[string]int, lost []time.Time, sent int) {
	select {
	case <-q.stop:
	default:
		close(q.stop)
	}
	q.g.Wait()
	return q.answered, q.lost, q.sent
}

// lastAfter is how long after a moment the last lost query was sent; 0: none was lost.
func lastAfter(lost []time.Time, since time.Time) (d time.Duration) {
	for _, at := range lost {
		d = max(d, at.Sub(since))
	}
	return d
}
