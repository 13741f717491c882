package protocol

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/zonecast/zonecast/authority/data"
)

var update = flag.Bool("update", false, "write the responses of the scenarios anew")

// TestScenarios asks the queries of each file in testdata/scenario and compares
// responses and the counters that moved. A file has the parts zone (none: no data
// yet), queries and responses. A query is a line
//
//	NAME TYPE [tcp] [edns=SIZE] [do] [rd] [cd] [ch] [id=N] [opcode=N] [version=N] [opts=N]
//
// or "hex OCTETS [tcp]" for a message as it is; "# ..." is repeated in the responses.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenario/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := func(name string) *txtar.File {
				i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
				if i < 0 {
					return nil
				}
				return &a.Files[i]
			}
			var view *data.View
			if z := part("zone"); z != nil {
				view = parseZone(t, string(z.Data)).view(t)
			}
			k := NewWorker(Config{Version: "test 1", Identity: "host1.example.net"})
			var out strings.Builder
			for line := range strings.Lines(string(part("queries").Data)) {
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				fmt.Fprintf(&out, "> %s\n", line)
				if !strings.HasPrefix(line, "#") {
					out.WriteString(scenarioStep(t, k, view, line))
				}
			}
			if responses := part("responses"); *update {
				responses.Data = []byte(out.String())
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(responses.Data), out.String()); diff != "" {
				t.Errorf("responses (-want +got):\n%s", diff)
			}
		})
	}
}

func parseZone(t testing.TB, text string) oracle {
	var o oracle
	p := dns.NewZoneParser(strings.NewReader(text), ".", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		o = append(o, rr)
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	return o
}

// scenarioStep asks one query and writes down what came back.
func scenarioStep(t *testing.T, k *Worker, view *data.View, line string) string {
	t.Helper()
	words := strings.Fields(line)
	transport := UDP
	if slices.Contains(words, "tcp") {
		transport = TCP
	}
	query := scenarioQuery(t, words)
	before := counted(&k.Counters)
	response := k.Respond(view, query, transport, time.Unix(0, 0), nil)
	var out strings.Builder
	if len(response) == 0 {
		out.WriteString("no response\n")
	} else {
		m := new(dns.Msg)
		if err := m.Unpack(response); err != nil {
			t.Fatalf("%s: %v: %x", line, err, response)
		}
		out.WriteString(describe(m, len(response)))
	}
	var moved []string
	for name, v := range counted(&k.Counters) {
		if v != before[name] {
			moved = append(moved, fmt.Sprintf("%s +%d", name, v-before[name]))
		}
	}
	slices.Sort(moved)
	fmt.Fprintf(&out, "  counters: %s\n", strings.Join(moved, ", "))
	return out.String()
}

func scenarioQuery(t *testing.T, words []string) []byte {
	if words[0] == "hex" {
		b, err := hex.DecodeString(words[1])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	q := new(dns.Msg)
	qtype, ok := dns.StringToType[words[1]]
	if !ok {
		n, err := strconv.Atoi(strings.TrimPrefix(words[1], "TYPE"))
		if err != nil {
			t.Fatal(err)
		}
		qtype = uint16(n)
	}
	q.Question = []dns.Question{{Name: words[0], Qtype: qtype, Qclass: dns.ClassINET}}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opts := 0
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "tcp":
		case "rd":
			q.RecursionDesired = true
		case "cd":
			q.CheckingDisabled = true
		case "ch":
			q.Question[0].Qclass = dns.ClassCHAOS
		case "class":
			q.Question[0].Qclass = uint16(n)
		case "id":
			q.Id = uint16(n)
		case "opcode":
			q.Opcode = n
		case "edns":
			opt.SetUDPSize(uint16(n))
			opts = max(opts, 1)
		case "do":
			opt.SetDo()
		case "version":
			opt.SetVersion(uint8(n))
		case "opts":
			opts = n
		case "option":
			opt.Option = append(opt.Option, &dns.EDNS0_LOCAL{Code: uint16(n), Data: []byte("ignored")})
		default:
			t.Fatalf("unknown word %q", w)
		}
	}
	for range opts {
		q.Extra = append(q.Extra, opt)
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func describe(m *dns.Msg, size int) string {
	var out strings.Builder
	fmt.Fprintf(&out, "  %s", Rcode(m.Rcode))
	for _, f := range []struct {
		name string
		set  bool
	}{{"aa", m.Authoritative}, {"tc", m.Truncated}, {"rd", m.RecursionDesired}, {"ra", m.RecursionAvailable}, {"ad", m.AuthenticatedData}, {"cd", m.CheckingDisabled}} {
		if f.set {
			out.WriteString(" " + f.name)
		}
	}
	fmt.Fprintf(&out, ", id %d, %d octets\n", m.Id, size)
	for _, q := range m.Question {
		fmt.Fprintf(&out, "  question %s %s %s\n", q.Name, dns.Class(q.Qclass), dns.Type(q.Qtype))
	}
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for n, rr := range section {
			if o, ok := rr.(*dns.OPT); ok {
				fmt.Fprintf(&out, "  edns version %d, size %d, do %v, %d options\n", o.Version(), o.UDPSize(), o.Do(), len(o.Option))
				continue
			}
			if n == 4 && len(section) > 8 {
				fmt.Fprintf(&out, "  %s ... %d records in all\n", [3]string{"answer", "authority", "additional"}[i], len(section))
			}
			if n >= 4 && len(section) > 8 {
				continue
			}
			text := strings.ReplaceAll(rr.String(), "\t", " ")
			if len(text) > 120 {
				text = text[:120] + "..."
			}
			fmt.Fprintf(&out, "  %s %s\n", [3]string{"answer", "authority", "additional"}[i], text)
		}
	}
	return out.String()
}

func counted(c *Counters) map[string]uint64 {
	m := map[string]uint64{
		"queries udp": c.Queries[UDP].Load(), "queries tcp": c.Queries[TCP].Load(), "truncated": c.Truncated.Load(), "dropped": c.Dropped.Load(),
	}
	for i := range c.Responses {
		m["responses "+Rcode(i).String()] = c.Responses[i].Load()
	}
	return m
}
