package dnsload

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// Expectations are questions with the answers that are right.
type Expectations struct {
	queries Queries
	want    []Expectation // of each query
}

// Len is the number of questions.
func (e *Expectations) Len() int { return len(e.want) }

// Expectation is one question and its answer.
type Expectation struct {
	Name  record.Name
	Type  record.Type
	Rcode int
	Count int          // records in the answer section
	Rdata record.Rdata // that one of them of Type has; "": any
}

// String says what is expected.
func (e Expectation) String() string {
	text := fmt.Sprintf("%s %d", RcodeName(e.Rcode), e.Count)
	if e.Rdata != "" {
		text += " " + dnswire.FormatRdata(e.Type, e.Rdata)
	}
	return text
}

// ReadExpectations reads lines `NAME TYPE RCODE COUNT [RDATA]`; empty ones and those
// that begin with ; or # are nothing. Errors begin with file:line.
func ReadExpectations(r io.Reader, file string, e Encoding) (*Expectations, error) {
	all := &Expectations{}
	err := lines(r, file, func(fields []string) error {
		if len(fields) < 4 {
			return fmt.Errorf("%d words, expected NAME TYPE RCODE COUNT and perhaps RDATA", len(fields))
		}
		if all.Len() == MaxQueries {
			return fmt.Errorf("more than %d questions, take a part of the file (shuf -n %d)", MaxQueries, MaxQueries)
		}
		x, err := readExpectation(fields)
		if err == nil {
			all.want = append(all.want, x)
			all.queries.add(x.Name, x.Type, e)
		}
		return err
	})
	if err == nil && all.Len() == 0 {
		err = fmt.Errorf("%s: no question in it, expected lines NAME TYPE RCODE COUNT and perhaps RDATA", file)
	}
	if err != nil {
		return nil, err
	}
	return all, nil
}

func readExpectation(fields []string) (x Expectation, err error) {
	if x.Name, x.Type, err = nameAndType(fields); err != nil {
		return x, err
	}
	if x.Rcode, err = parseRcode(fields[2]); err != nil {
		return x, err
	}
	n, err := strconv.ParseUint(fields[3], 10, 16)
	if err != nil {
		return x, fmt.Errorf("count %q, expected the number of records in the answer section", clip(fields[3]))
	}
	x.Count = int(n)
	if len(fields) > 4 {
		x.Rdata, err = dnswire.ParseRdata(x.Type, strings.Join(fields[4:], " "), record.Root)
	}
	return x, err
}

func parseRcode(text string) (int, error) {
	for i, name := range rcodeNames {
		if strings.EqualFold(text, name) {
			return i, nil
		}
	}
	digits := text
	if len(text) > 5 && strings.EqualFold(text[:5], "RCODE") {
		digits = text[5:]
	}
	n, err := strconv.ParseUint(digits, 10, 12)
	if err != nil {
		return 0, fmt.Errorf("rcode %q, expected a mnemonic such as NOERROR or NXDOMAIN, or RCODEnnn", clip(text))
	}
	return int(n), nil
}

// Finding is a question whose answer is not as expected.
type Finding struct {
	Expectation
	Found string // in the form of Expectation.String, or why there is none
}

// Compare asks each question once, and again over TCP where a response is truncated,
// and gives those that are not as expected, in the order of the file. Of c it uses
// Target, Allowed, TCP, Threads and Timeout.
func Compare(ctx context.Context, c Config, e *Expectations) ([]Finding, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.WithDefaults()
	found := make([][]Finding, c.Threads)
	failed := make([]error, c.Threads)
	var all sync.WaitGroup
	for i := range c.Threads {
		all.Go(func() {
			found[i], failed[i] = compare(ctx, c, e, i*e.Len()/c.Threads, (i+1)*e.Len()/c.Threads)
		})
	}
	all.Wait()
	var findings []Finding
	for _, f := range found {
		findings = append(findings, f...)
	}
	return findings, cmp.Or(append(failed, ctx.Err())...)
}

// compare asks the questions from first to before end.
func compare(ctx context.Context, c Config, e *Expectations, first, end int) (found []Finding, err error) {
	a := asker{config: c}
	defer a.close()
	// As many as this, and none before them answered: there is no server.
	const unanswered = 10
	silent := 0
	for i := first; i < end && ctx.Err() == nil; i++ {
		want := e.want[i]
		r, err := a.ask(e.queries.message(uint32(i)), uint16(i), c.TCP)
		if err == nil && r.truncated && !c.TCP {
			r, err = a.ask(e.queries.message(uint32(i)), uint16(i), true)
		}
		if err != nil {
			found = append(found, Finding{want, err.Error()})
			if silent++; silent == unanswered && silent == i-first+1 {
				return found, fmt.Errorf("none of the first %d questions was answered by %s: %w", silent, c.Target, err)
			}
			continue
		}
		if r.rcode != want.Rcode || len(r.answers) != want.Count || want.Rdata != "" && !r.has(want.Type, want.Rdata) {
			found = append(found, Finding{want, r.String()})
		}
	}
	return found, nil
}

// String is the response in the form of an Expectation.
func (r *response) String() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "%s %d", RcodeName(r.rcode), len(r.answers))
	for i, a := range r.answers {
		if i == 4 { // enough to see what is wrong
			sb.WriteString(", …")
			break
		}
		if i > 0 {
			sb.WriteByte(',')
		}
		fmt.Fprintf(&sb, " %s %s", a.rtype, dnswire.FormatRdata(a.rtype, a.rdata))
	}
	return sb.String()
}

// asker asks one question after the other.
type asker struct {
	config Config
	udp    net.Conn // nil: not yet
	buf    [65535]byte
}

func (a *asker) close() {
	if a.udp != nil {
		_ = a.udp.Close() // nothing is lost by it
	}
}

func (a *asker) ask(query []byte, id uint16, tcp bool) (*response, error) {
	question := query[headerSize : headerSize+int(binary.BigEndian.Uint16(query))]
	m := binary.BigEndian.AppendUint16(nil, id)
	m = append(m, query[2:]...)
	if tcp {
		return a.askTCP(m, id, question)
	}
	if a.udp == nil {
		c, err := net.Dial("udp", a.config.Target.String())
		if err != nil {
			return nil, err
		}
		a.udp = c
	}
	if err := a.udp.SetDeadline(time.Now().Add(a.config.Timeout)); err != nil {
		return nil, err
	}
	if _, err := a.udp.Write(m); err != nil {
		return nil, err
	}
	for {
		n, err := a.udp.Read(a.buf[:])
		if err != nil {
			return nil, a.late(err)
		}
		r, err := readResponse(a.buf[:n], id, question)
		if !errors.Is(err, errOther) { // over UDP it may be a late or forged one
			return r, err
		}
	}
}

func (a *asker) askTCP(m []byte, id uint16, question []byte) (*response, error) {
	c, err := net.DialTimeout("tcp", a.config.Target.String(), a.config.Timeout)
	if err != nil {
		return nil, a.late(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(a.config.Timeout)); err != nil {
		return nil, err
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)); err != nil {
		return nil, a.late(err)
	}
	if _, err := io.ReadFull(c, a.buf[:2]); err != nil {
		return nil, a.late(err)
	}
	n := int(binary.BigEndian.Uint16(a.buf[:]))
	if _, err := io.ReadFull(c, a.buf[:n]); err != nil {
		return nil, a.late(err)
	}
	return readResponse(a.buf[:n], id, question)
}

// late says that time was up where that is the reason.
func (a *asker) late(err error) error {
	if n := net.Error(nil); errors.As(err, &n) && n.Timeout() {
		return fmt.Errorf("no answer within %v", a.config.Timeout)
	}
	return err
}
