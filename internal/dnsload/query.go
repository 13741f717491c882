package dnsload

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/zonecast/zonecast/record"
)

const (
	// MaxQueries bounds what a file may have: 2^20 queries take about 60 MB when
	// names are as long as usual, 330 MB at the most.
	MaxQueries = 1 << 20
	// maxLine bounds a line, in octets: a name of 255 octets takes 1,016 when all
	// of them are written as \DDD.
	maxLine = 4096
	// maxQuery is the largest query, in octets: header 12, name 255, type and class
	// 4, OPT 11, client subnet 24 (RFC 7871 §6: 4 + 4 + an IPv6 address).
	maxQuery = 12 + 255 + 4 + 11 + 24
	// ednsSize is the UDP size offered: what fits IPv6's least MTU (1280 - 40 - 8).
	ednsSize = 1232

	headerSize = 12
	classIN    = 1
	optSubnet  = 8 // RFC 7871 §6
)

// Encoding says what queries have besides their question.
type Encoding struct {
	EDNS bool // an OPT record
	DO   bool // DNSSEC OK in it; implies EDNS
	// Subnet is the client subnet in it; implies EDNS. The zero value: none.
	Subnet netip.Prefix
}

// Queries are queries in wire form, one behind the other.
type Queries struct {
	// arena has the messages. In place of the id, which each use gives anew, stands
	// the length of the question section in octets.
	arena []byte
	ends  []uint32 // of each message in arena
}

// Len is the number of queries.
func (q *Queries) Len() int { return len(q.ends) }

// message is query i as it lies in the arena.
func (q *Queries) message(i uint32) []byte {
	start := uint32(0)
	if i > 0 {
		start = q.ends[i-1]
	}
	return q.arena[start:q.ends[i]]
}

// question is the question section of query i.
func (q *Queries) question(i uint32) []byte {
	m := q.message(i)
	return m[headerSize : headerSize+int(binary.BigEndian.Uint16(m))]
}

// add encodes one query: no recursion desired, class IN.
func (q *Queries) add(name record.Name, t record.Type, e Encoding) {
	edns := e.EDNS || e.DO || e.Subnet.IsValid()
	b := binary.BigEndian.AppendUint16(q.arena, uint16(len(name)+4))
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	if edns {
		b[len(b)-1] = 1
	}
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	b = binary.BigEndian.AppendUint16(b, classIN)
	if edns {
		b = appendOPT(b, e)
	}
	q.arena = b
	q.ends = append(q.ends, uint32(len(b)))
}

// appendOPT appends RFC 6891 §6.1.2's record:
//
//	0 | 41 | UDP size | rcode, version, DO and zeros | length | options
//	1 |  2 |     2    |             4                |    2   |
func appendOPT(b []byte, e Encoding) []byte {
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(record.TypeOPT))
	b = binary.BigEndian.AppendUint16(b, ednsSize)
	flags := uint32(0)
	if e.DO {
		flags = 0x8000
	}
	b = binary.BigEndian.AppendUint32(b, flags)
	if !e.Subnet.IsValid() {
		return append(b, 0, 0)
	}
	// As many octets of the address as the prefix has bits for, the rest zero.
	p := e.Subnet.Masked()
	octets := (p.Bits() + 7) / 8
	b = binary.BigEndian.AppendUint16(b, uint16(8+octets))
	b = binary.BigEndian.AppendUint16(b, optSubnet)
	b = binary.BigEndian.AppendUint16(b, uint16(4+octets))
	family := uint16(1)
	if p.Addr().Is6() {
		family = 2
	}
	b = binary.BigEndian.AppendUint16(b, family)
	b = append(b, byte(p.Bits()), 0)
	return append(b, p.Addr().AsSlice()[:octets]...)
}

// OneQuery is a single query, to be asked again and again.
func OneQuery(name record.Name, t record.Type, e Encoding) *Queries {
	q := &Queries{}
	q.add(name, t, e)
	return q
}

// ReadQueries reads dnsperf's and kxdpgun's files: `name TYPE [flags]` a line, flags
// of kxdpgun being E for EDNS and D for EDNS with DNSSEC OK; lines that are empty or
// begin with ; or # are nothing. Errors begin with file:line.
func ReadQueries(r io.Reader, file string, e Encoding) (*Queries, error) {
	q := &Queries{}
	err := lines(r, file, func(fields []string) error {
		if len(fields) < 2 || len(fields) > 3 {
			return fmt.Errorf("%d words, expected NAME TYPE and at most the flags E and D", len(fields))
		}
		name, t, err := nameAndType(fields)
		if err != nil {
			return err
		}
		e := e
		if len(fields) == 3 {
			if err := e.flags(fields[2]); err != nil {
				return err
			}
		}
		if q.Len() == MaxQueries {
			return fmt.Errorf("more than %d queries, take a part of the file (shuf -n %d)", MaxQueries, MaxQueries)
		}
		q.add(name, t, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if q.Len() == 0 {
		return nil, fmt.Errorf("%s: no query in it, expected lines NAME TYPE", file)
	}
	return q, nil
}

func (e *Encoding) flags(text string) error {
	for _, c := range text {
		switch c {
		case 'E':
			e.EDNS = true
		case 'D':
			e.EDNS, e.DO = true, true
		default:
			return fmt.Errorf("flags %q, expected E (EDNS), D (EDNS with DNSSEC OK) or both", clip(text))
		}
	}
	return nil
}

func nameAndType(fields []string) (record.Name, record.Type, error) {
	name, err := record.ParseName(fields[0])
	if err != nil {
		return "", 0, err
	}
	t, err := record.ParseType(fields[1])
	return name, t, err
}

// lines calls each with the words of every line that says something.
func lines(r io.Reader, file string, each func(fields []string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, maxLine), maxLine)
	n := 0
	for s.Scan() {
		n++
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		if err := each(strings.Fields(line)); err != nil {
			return fmt.Errorf("%s:%d: %w", file, n, err)
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: line longer than %d octets, expected NAME TYPE", file, n+1, maxLine)
	} else if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
