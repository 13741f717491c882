package direct

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

// Bounds. Break glass is for an emergency, not for a day.
const (
	Max       = 100    // on one host
	MaxSeen   = 10_000 // statements that are remembered
	MaxFile   = 4 << 20
	MinLength = time.Second
	MaxLength = 24 * time.Hour
	// Memory is how long the store has what became of an override, after its end.
	Memory  = 24 * time.Hour
	maxData = 100 // records of one
)

// Actions that operators sign.
const (
	ActionSet   = "direct override set"
	ActionClear = "direct override cleared"
)

// Path is where the file of the host with a journal lies.
func Path(journal string) string { return journal + ".direct" }

// fileMagic begins the file; the SHA-256 of all that is behind its line follows, in
// hexadecimal.
const fileMagic = "zonecast direct 1 "

// ErrDamaged is wrapped when a file is not what Write wrote.
var ErrDamaged = errors.New("damaged")

// Kept is what a host keeps of what operators handed to it.
type Kept struct {
	Overrides []tree.Direct `json:"overrides"`
	// Seen has the statements that were taken and that could be taken again otherwise, and
	// when they were: unix milliseconds by id.
	Seen map[string]int64 `json:"seen,omitempty"`
}

// Read gives what is in the file; nothing when there is no file.
func Read(path string) (Kept, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Kept{}, nil
	}
	if err != nil {
		return Kept{}, fmt.Errorf("read direct overrides: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return Kept{}, fmt.Errorf("read direct overrides %s: %w", path, err)
	}
	k, err := decode(b)
	if err != nil {
		return Kept{}, fmt.Errorf("read direct overrides %s: %w: %w", path, ErrDamaged, err)
	}
	return k, nil
}

func decode(b []byte) (k Kept, err error) {
	if len(b) > MaxFile {
		return k, fmt.Errorf("more than %d octets", MaxFile)
	}
	line, body, _ := bytes.Cut(b, []byte("\n"))
	sum, ok := bytes.CutPrefix(line, []byte(fileMagic))
	if !ok {
		return k, fmt.Errorf("begins with %.40q, expected %q", line, fileMagic)
	}
	if found := sumOf(body); found != string(sum) {
		return k, fmt.Errorf("sha256 is %s, the first line says %.64q", found, sum)
	}
	if err := json.Unmarshal(body, &k); err != nil {
		return Kept{}, err
	}
	switch {
	case len(k.Overrides) > Max:
		return Kept{}, fmt.Errorf("%d overrides, at most %d", len(k.Overrides), Max)
	case len(k.Seen) > MaxSeen:
		return Kept{}, fmt.Errorf("%d statements, at most %d", len(k.Seen), MaxSeen)
	}
	for _, d := range k.Overrides {
		if _, err := RRset(d); err != nil {
			return Kept{}, err
		}
	}
	return k, nil
}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Write replaces the file. It is on the disk when Write returns.
func Write(path string, k Kept) error {
	b, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("write direct overrides: %w", err)
	}
	b = append(b, '\n')
	return atomicfile.Write(path, 0o644, append([]byte(fileMagic+sumOf(b)+"\n"), b...))
}

// RRset is what an override answers.
func RRset(d tree.Direct) (r record.RRset, err error) {
	fail := func(err error) (record.RRset, error) { return r, fmt.Errorf("direct override %s: %w", d.ID, err) }
	owner, err := record.ParseName(d.Owner)
	if err != nil {
		return fail(err)
	}
	t, err := record.ParseType(d.Type)
	switch {
	case err != nil:
		return fail(err)
	case t == record.TypeSOA || t == record.TypeNS || t == record.TypeDNAME:
		return fail(fmt.Errorf("type is %s: what makes zones and delegations is not overridden on a host", t))
	case len(d.Rdata) == 0 || len(d.Rdata) > maxData:
		return fail(fmt.Errorf("%d records, expected 1 to %d", len(d.Rdata), maxData))
	case d.TTL > record.MaxTTL:
		return fail(fmt.Errorf("TTL is %d, expected 0 to %d", d.TTL, record.MaxTTL))
	}
	var data []record.Rdata
	for i, text := range d.Rdata {
		rd, err := dnswire.ParseRdata(t, text, record.Root)
		if err != nil {
			return fail(fmt.Errorf("record %d, %.200q: %w", i+1, text, err))
		}
		data = append(data, rd)
	}
	r = record.NewRRset(owner, t, d.TTL, data...)
	if n := len(r.Data); n > 1 && t == record.TypeCNAME {
		return fail(fmt.Errorf("%d records, a CNAME has one", n))
	}
	if err := r.Check(); err != nil {
		return fail(err)
	}
	return r, nil
}

// Covers tells whether an override of r hides the RRset with the key: its own type in all
// locations, a CNAME at its name, and, when it is one or is meant for the whole name, all;
// never what makes a zone.
func Covers(r record.RRset, whole bool, k record.Key) bool {
	return k.Owner == r.Owner && k.Type != record.TypeSOA && k.Type != record.TypeNS && (whole || r.Type == record.TypeCNAME || k.Type == r.Type || k.Type == record.TypeCNAME)
}

// Text is one in words.
func Text(d tree.DirectState) string {
	text := fmt.Sprintf("direct override %s of %s %s by %s until %s", d.ID, d.Owner, d.Type, d.Operator, time.UnixMilli(d.Until).UTC().Format("2006-01-02 15:04:05Z"))
	if d.Refused != "" {
		text += ", not answered: " + d.Refused
	}
	return text
}

// setArgs are the arguments of ActionSet.
type setArgs struct {
	Owner  string   `json:"owner"`
	Type   string   `json:"type"`
	TTL    uint32   `json:"ttl"`
	Rdata  []string `json:"rdata"`
	ForMs  int64    `json:"for_ms"`
	Whole  bool     `json:"whole_name"`
	Reason string   `json:"reason"`
}

// Set is the act of putting an RRset on top of hosts.
func Set(owner, typ string, ttl uint32, rdata []string, length time.Duration, whole bool, reason string) operator.Act {
	return operator.Act{Right: "override", Action: ActionSet, Args: operator.Args{
		"owner": owner, "type": typ, "ttl": ttl, "rdata": rdata, "for_ms": length.Milliseconds(), "whole_name": whole, "reason": reason,
	}}
}

// Clear is the act of taking one away.
func Clear(id, reason string) operator.Act {
	return operator.Act{Right: "override", Action: ActionClear, Args: operator.Args{"id": id, "reason": reason}}
}

// Of gives the override that a statement sets, from when it was signed on.
func Of(s operator.Statement, id string, signed []byte) (d tree.Direct, err error) {
	var a setArgs
	if err := json.Unmarshal(s.Args, &a); err != nil {
		return d, fmt.Errorf("direct override: arguments: %w", err)
	}
	length := time.Duration(a.ForMs) * time.Millisecond
	if a.ForMs < MinLength.Milliseconds() || a.ForMs > MaxLength.Milliseconds() {
		return d, fmt.Errorf("direct override for %v, expected %v to %v", length, MinLength, MaxLength)
	}
	if a.Reason == "" || len(a.Reason) > 1024 {
		return d, fmt.Errorf("direct override: the reason has %d octets, expected 1 to 1024", len(a.Reason))
	}
	d = tree.Direct{
		ID: id, Owner: a.Owner, Type: a.Type, TTL: a.TTL, Rdata: a.Rdata, Whole: a.Whole, Set: s.Time, Until: s.Time + a.ForMs,
		Operator: s.Operator, Reason: a.Reason, Signed: slices.Clone(signed),
	}
	r, err := RRset(d)
	d.Owner, d.Type = r.Owner.String(), r.Type.String()
	return d, err
}

// ClearedID gives the id that a statement clears, and why.
func ClearedID(s operator.Statement) (id, reason string, err error) {
	var a struct {
		ID     string `json:"id"`
		Reason string `json:"reason"`
	}
	err = json.Unmarshal(s.Args, &a)
	return a.ID, a.Reason, err
}
