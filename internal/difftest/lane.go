package difftest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// lane asks one server many questions at a time and waits for all of the answers.
type lane struct {
	server netip.AddrPort
	wait   time.Duration
	udp    *net.UDPConn
	tcp    net.Conn // nil: not connected
	from   *bufio.Reader
	buf    [65535]byte

	first    uint16 // the ID of the first question; the others follow
	missing  int
	answered []bool
	spans    []span // the answers in arena
	arena    []byte
}

func newLane(server netip.AddrPort, wait time.Duration) (*lane, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", server, err)
	}
	return &lane{server: server, wait: wait, udp: c}, nil
}

func (l *lane) close() error {
	err := l.udp.Close()
	if l.tcp != nil {
		err = errors.Join(err, l.tcp.Close())
	}
	return err
}

// round is the questions that go out together, encoded.
type round struct {
	first   uint16
	asked   []Question
	queries []byte
	at      []span
}

func (r *round) encode(first uint16, qs []Question) {
	r.first, r.asked, r.queries, r.at = first, qs, r.queries[:0], r.at[:0]
	for i, q := range qs {
		from := len(r.queries)
		r.queries = q.appendTo(r.queries, first+uint16(i))
		r.at = append(r.at, span{from, len(r.queries)})
	}
}

// begin forgets the answers of the round before and sends all questions.
func (l *lane) begin(r *round) error {
	n := len(r.asked)
	l.first, l.missing, l.arena = r.first, n, l.arena[:0]
	if cap(l.answered) < n {
		l.answered, l.spans = make([]bool, n), make([]span, n)
	}
	l.answered, l.spans = l.answered[:n], l.spans[:n]
	clear(l.answered)
	return l.send(r)
}

// send sends the questions that have no answer yet.
func (l *lane) send(r *round) error {
	var stream []byte
	for i, q := range r.asked {
		if l.answered[i] {
			continue
		}
		query := r.queries[r.at[i].from:r.at[i].to]
		if q.Via.way().tcp {
			stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(query))), query...)
		} else if _, err := l.udp.Write(query); err != nil {
			return fmt.Errorf("ask %s: %w", l.server, err)
		}
	}
	if len(stream) == 0 {
		return nil
	}
	if l.tcp == nil {
		c, err := net.DialTimeout("tcp", l.server.String(), l.wait)
		if err != nil {
			return fmt.Errorf("ask %s: %w", l.server, err)
		}
		l.tcp, l.from = c, bufio.NewReaderSize(c, 1<<16)
	}
	if err := l.tcp.SetWriteDeadline(time.Now().Add(l.wait)); err != nil {
		return err
	}
	if _, err := l.tcp.Write(stream); err != nil {
		l.hangUp() // closed for idleness, say
	}
	return nil
}

func (l *lane) hangUp() {
	l.tcp.Close()
	l.tcp = nil
}

// finish waits for the answers, and asks again for those that do not come.
func (l *lane) finish(r *round) error {
	var last error
	for attempt := range attempts {
		if attempt > 0 {
			if err := l.send(r); err != nil {
				last = err
				continue
			}
		}
		if last = errors.Join(l.take(r, false), l.take(r, true)); l.missing == 0 {
			return nil
		}
	}
	for i, q := range r.asked {
		if !l.answered[i] {
			return fmt.Errorf("ask %s for %s %s by %s, %d times: %w", l.server, q.Name, q.Type, q.Via, attempts, last)
		}
	}
	return nil
}

// take reads answers over UDP or TCP until all of that transport are there.
func (l *lane) take(r *round, tcp bool) error {
	want := 0
	for i, q := range r.asked {
		if q.Via.way().tcp == tcp && !l.answered[i] {
			want++
		}
	}
	if want == 0 {
		return nil
	}
	if tcp && l.tcp == nil {
		return errors.New("connection was closed")
	}
	deadline := time.Now().Add(l.wait)
	if tcp {
		if err := l.tcp.SetReadDeadline(deadline); err != nil {
			return err
		}
	} else if err := l.udp.SetReadDeadline(deadline); err != nil {
		return err
	}
	for want > 0 {
		b, err := l.read(tcp)
		if err != nil {
			if tcp {
				l.hangUp()
			}
			return err
		}
		if l.enter(b, r, tcp) {
			want--
		}
	}
	return nil
}

func (l *lane) read(tcp bool) ([]byte, error) {
	if !tcp {
		n, err := l.udp.Read(l.buf[:])
		return l.buf[:n], err
	}
	if _, err := io.ReadFull(l.from, l.buf[:2]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(l.buf[:])
	_, err := io.ReadFull(l.from, l.buf[:n])
	return l.buf[:n], err
}

// enter keeps an answer to a question of the round that has none yet.
func (l *lane) enter(b []byte, r *round, tcp bool) bool {
	if len(b) < 2 {
		return false
	}
	i := int(binary.BigEndian.Uint16(b) - l.first)
	if i >= len(l.answered) || l.answered[i] || r.asked[i].Via.way().tcp != tcp {
		return false // late
	}
	from := len(l.arena)
	l.arena = append(l.arena, b...)
	l.answered[i], l.spans[i] = true, span{from, len(l.arena)}
	l.missing--
	return true
}

// response is the answer to question i, valid until the next round.
func (l *lane) response(i int) []byte { return l.arena[l.spans[i].from:l.spans[i].to] }
