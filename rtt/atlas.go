package rtt

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"
)

// atlasResult is a ping result as RIPE Atlas gives it (atlas.ripe.net/docs/apis/result-format, version
// 5), as far as it is needed.
type atlasResult struct {
	Type      string   `json:"type"`
	Probe     int64    `json:"prb_id"`
	From      string   `json:"from"`
	DstName   string   `json:"dst_name"`
	DstAddr   string   `json:"dst_addr"`
	Timestamp int64    `json:"timestamp"`
	Min       *float64 `json:"min"`
	Avg       *float64 `json:"avg"`
	Result    []struct {
		RTT *float64 `json:"rtt"` // milliseconds; none: no answer
		Dup any      `json:"dup"` // it was answered twice
	} `json:"result"`
}

// ImportAtlas adds ping results as RIPE Atlas gives them: a JSON array of them, or one
// behind the other. targets has the PoPs by the name or the address that was pinged. Of each
// result the shortest time counts, for the probe's prefix (from). Results without an answer are
// counted as lost, those to other targets as elsewhere. Errors are *LineError. What was read
// before one was added.
func (t *Table) ImportAtlas(r io.Reader, targets map[string]string) (Imported, error) {
	var done Imported
	in := &elements{in: bufio.NewReaderSize(r, 64<<10), line: 1}
	hash := newClientHash()
	for {
		b, line, err := in.next()
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return done, &LineError{in.line, err}
		}
		var result atlasResult
		if err := json.Unmarshal(b, &result); err != nil {
			var syntax *json.SyntaxError
			var typed *json.UnmarshalTypeError
			if errors.As(err, &syntax) {
				line += bytes.Count(b[:max(syntax.Offset-1, 0)], []byte("\n"))
			} else if errors.As(err, &typed) {
				line += bytes.Count(b[:typed.Offset], []byte("\n"))
				err = fmt.Errorf("%s is a JSON %s, expected %s", typed.Field, typed.Value, typed.Type)
			}
			return done, &LineError{line, err}
		}
		if err := t.addAtlas(result, targets, hash, &done); err != nil {
			return done, &LineError{line, err}
		}
	}
}

// elements takes JSON objects apart that stand in an array or one behind the other.
type elements struct {
	in    *bufio.Reader
	line  int // where it is
	state int
	buf   []byte
}

// What comes next.
const (
	atStart  = iota // an array or an object
	inArray         // its first object, or its end
	inComma         // an object
	inBehind        // a comma, or the end of the array
	inLines         // an object, or nothing more
	atEnd           // nothing more
)

// next gives an object, good until the next call, and the line it begins in; io.EOF when there
// is none left. An error is in the line where it is.
func (e *elements) next() (object []byte, line int, err error) {
	for {
		c, err := e.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && (e.state == inLines || e.state == atEnd):
			return nil, 0, io.EOF
		case errors.Is(err, io.EOF) && e.state == atStart:
			return nil, 0, errors.New("it is empty, expected results of RIPE Atlas")
		case errors.Is(err, io.EOF):
			return nil, 0, errors.New("it ends within the array of results")
		case err != nil:
			return nil, 0, err
		}
		switch {
		case c == '\n':
			e.line++
		case c == ' ' || c == '\t' || c == '\r':
		case c == '[' && e.state == atStart:
			e.state = inArray
		case c == ',' && e.state == inBehind:
			e.state = inComma
		case c == ']' && (e.state == inArray || e.state == inBehind):
			e.state = atEnd
		case c == '{' && e.state != inBehind && e.state != atEnd:
			if e.state == atStart {
				e.state = inLines
			} else if e.state != inLines {
				e.state = inBehind
			}
			line = e.line
			err := e.object()
			return e.buf, line, err
		case e.state == atEnd:
			return nil, 0, fmt.Errorf("%q follows the array of results", c)
		default:
			return nil, 0, fmt.Errorf("it has %q, expected an object as of RIPE Atlas, or an array of them", c)
		}
	}
}

// object reads on to the end of an object into buf.
func (e *elements) object() error {
	e.buf = append(e.buf[:0], '{')
	depth, quoted, escaped := 1, false, false
	for depth > 0 {
		c, err := e.in.ReadByte()
		if errors.Is(err, io.EOF) {
			return errors.New("it ends within a result")
		}
		if err != nil {
			return err
		}
		if e.buf = append(e.buf, c); len(e.buf) > maxLine {
			return errLong
		}
		switch {
		case c == '\n':
			e.line++
		case escaped:
			escaped = false
			continue
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && c == '{':
			depth++
		case !quoted && c == '}':
			depth--
		}
	}
	return nil
}

func (t *Table) addAtlas(a atlasResult, targets map[string]string, hash clientHash, done *Imported) error {
	if a.Type != "" && a.Type != "ping" {
		return fmt.Errorf("type %.80q, expected ping", a.Type)
	}
	pop, ok := targets[a.DstName]
	if !ok {
		if pop, ok = targets[a.DstAddr]; !ok {
			done.Elsewhere++
			return nil
		}
	}
	shortest, found := 0.0, false
	for _, packet := range a.Result {
		if packet.RTT != nil && packet.Dup == nil && (!found || *packet.RTT < shortest) {
			shortest, found = *packet.RTT, true
		}
	}
	for _, ms := range []*float64{a.Min, a.Avg} {
		if !found && ms != nil && *ms != -1 { // -1: no answer
			shortest, found = *ms, true
		}
	}
	if !found {
		done.Lost++
		return nil
	}
	if !(shortest > 0 && shortest <= milliseconds(Longest)) {
		return fmt.Errorf("probe %d: %v milliseconds, expected above 0 and up to %v", a.Probe, shortest, milliseconds(Longest))
	}
	from, err := netip.ParseAddr(a.From)
	if err != nil {
		return fmt.Errorf("probe %d: from %.80q, expected an address", a.Probe, a.From)
	}
	key, ok := OfAddr(Client, from)
	if !ok {
		return fmt.Errorf("probe %d: from %v, expected an address", a.Probe, from)
	}
	if a.Timestamp < 0 || a.Timestamp > maxTime {
		return fmt.Errorf("probe %d: timestamp %d, expected Unix seconds", a.Probe, a.Timestamp)
	}
	err = t.Add(Measurement{
		Key: key, PoP: pop, RTT: max(time.Duration(shortest*float64(time.Millisecond)), 1),
		Client: hash.of(strconv.FormatInt(a.Probe, 10)), At: time.Unix(a.Timestamp, 0),
	})
	if err == nil {
		done.Measurements++
	}
	return err
}
