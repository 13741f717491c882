package dnswire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/record"
)

// Response is a DNS response taken apart.
type Response struct {
	Rcode         int    // RFC 6895 §2.3, with the upper bits from EDNS
	RcodeName     string // mnemonic such as NXDOMAIN, or RCODEnnn
	Authoritative bool   // AA
	Truncated     bool   // TC
	Recursion     bool   // RA
	Answer        []record.RRset
	Authority     []record.RRset
	Additional    []record.RRset // without OPT
	Size          int            // octets of the message as received
	Took          time.Duration
	TCP           bool // the response came over TCP
}

const (
	queryTimeout = 2 * time.Second // for a whole Query whose context has no deadline
	queryUDPSize = 1232            // octets offered by EDNS: what fits IPv6's least MTU
)

// Query asks server once, without recursion desired, over UDP (again over TCP when
// the response is truncated) or over TCP. Without a deadline in ctx it waits 2 s.
// A response that is not to this question is an error. RRsets are in the order in
// which their first records came; a TTL is that of the first record.
func Query(ctx context.Context, server netip.AddrPort, name record.Name, t record.Type, tcp bool) (*Response, error) {
	return query(ctx, server, name, t, tcp, false)
}

// QueryRecursor is Query with recursion desired.
func QueryRecursor(ctx context.Context, server netip.AddrPort, name record.Name, t record.Type, tcp bool) (*Response, error) {
	return query(ctx, server, name, t, tcp, true)
}

func query(ctx context.Context, server netip.AddrPort, name record.Name, t record.Type, tcp, recurse bool) (*Response, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, queryTimeout)
		defer cancel()
	}
	started := time.Now()
	r, err := exchange(ctx, server, name, t, tcp, recurse)
	if err == nil && r.Truncated && !tcp {
		r, err = exchange(ctx, server, name, t, true, recurse)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s %s: %w", server, name, t, err)
	}
	r.Took = time.Since(started)
	return r, nil
}

func exchange(ctx context.Context, server netip.AddrPort, name record.Name, t record.Type, tcp, recurse bool) (*Response, error) {
	q := new(dns.Msg)
	q.SetQuestion(name.String(), uint16(t))
	q.RecursionDesired = recurse
	q.SetEdns0(queryUDPSize, false)
	ask, err := q.Pack()
	if err != nil {
		return nil, err
	}
	network := "udp"
	if tcp {
		network = "tcp"
		ask = append(binary.BigEndian.AppendUint16(nil, uint16(len(ask))), ask...)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(ask); err != nil {
		return nil, ended(ctx, err)
	}
	buf := make([]byte, 65535)
	for {
		n, err := receive(conn, buf, tcp)
		if err != nil {
			return nil, ended(ctx, err)
		}
		r, err := take(buf[:n], q)
		if err != nil {
			return nil, err
		}
		if r != nil {
			r.TCP = tcp
			return r, nil
		}
		if tcp {
			return nil, errors.New("the message that came back is no response to the question")
		}
		// Over UDP it may be a late or forged one: the right one may still come.
	}
}

// ended gives the reason why ctx ended rather than that of a socket closed by it.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func receive(conn net.Conn, buf []byte, tcp bool) (int, error) {
	if !tcp {
		return conn.Read(buf)
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(buf))
	_, err := io.ReadFull(conn, buf[:n])
	return n, err
}

// take reads a message; nil when it is no response to q.
func take(b []byte, q *dns.Msg) (*Response, error) {
	if len(b) < 12 || binary.BigEndian.Uint16(b) != q.Id || b[2]&0x80 == 0 {
		return nil, nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		return nil, fmt.Errorf("read response of %d octets: %w", len(b), err)
	}
	// FORMERR and the like may come without the question.
	if len(m.Question) == 0 && m.Rcode == dns.RcodeSuccess || len(m.Question) > 1 {
		return nil, nil
	}
	for _, qu := range m.Question {
		got, err := record.ParseName(qu.Name)
		want, _ := record.ParseName(q.Question[0].Name)
		if err != nil || got != want || qu.Qtype != q.Question[0].Qtype {
			return nil, nil
		}
	}
	return response(m, len(b))
}

// ParseResponse takes a response apart that is to a question of the caller's; Took and TCP
// are not set.
func ParseResponse(b []byte) (*Response, error) {
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		return nil, fmt.Errorf("read response of %d octets: %w", len(b), err)
	}
	return response(m, len(b))
}

// response takes a message of size octets apart.
func response(m *dns.Msg, size int) (*Response, error) {
	r := &Response{
		Rcode: m.Rcode, RcodeName: rcodeName(m.Rcode), Authoritative: m.Authoritative, Truncated: m.Truncated,
		Recursion: m.RecursionAvailable, Size: size,
	}
	for _, s := range []struct {
		from []dns.RR
		to   *[]record.RRset
	}{{m.Answer, &r.Answer}, {m.Ns, &r.Authority}, {m.Extra, &r.Additional}} {
		var err error
		if *s.to, err = rrsets(s.from); err != nil {
			return nil, fmt.Errorf("read response: %w", err)
		}
	}
	return r, nil
}

func rcodeName(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return "RCODE" + strconv.Itoa(rcode)
}

// rrsets groups a section's records.
func rrsets(rrs []dns.RR) ([]record.RRset, error) {
	type group struct {
		ttl  uint32
		data []record.Rdata
	}
	var order []record.Key
	groups := make(map[record.Key]*group, len(rrs))
	for _, rr := range rrs {
		h := *rr.Header()
		if h.Rrtype == dns.TypeOPT {
			continue
		}
		owner, err := record.ParseName(h.Name)
		if err != nil {
			return nil, err
		}
		k := record.Key{Owner: owner, Type: record.Type(h.Rrtype)}
		wire, err := packRdata(rr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		rd, err := Canonical(k.Type, wire)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		g := groups[k]
		if g == nil {
			g = &group{ttl: h.Ttl}
			groups[k] = g
			order = append(order, k)
		}
		g.data = append(g.data, rd)
	}
	out := make([]record.RRset, 0, len(order))
	for _, k := range order {
		out = append(out, record.NewRRset(k.Owner, k.Type, groups[k].ttl, groups[k].data...))
	}
	return out, nil
}
