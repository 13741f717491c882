package authority

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/sample"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

// TestSample asks two names, one as often again as the other, in turn: the file has both
// with their shares, with what came of them, and without the client. Queries of other
// classes are not in it.
func TestSample(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, sampleFile)
	if err := os.WriteFile(stale, []byte("of an earlier life"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := startHost(t, func(c *Config) { c.UDPWorkers, c.StatusDir, c.Sample, c.SampleWindow = 1, dir, 200, minSampleWindow })
	h.openJournal()
	h.publish([]record.RRset{soa("example.net."), address("www.example.net.", 1)}, nil)
	h.reach(1)
	if b, err := os.ReadFile(stale); err == nil && !json.Valid(b) {
		t.Errorf("the file of an earlier life is still there: %s", b)
	}
	conn, err := dns.Dial("udp", h.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const queries = 40_000
	for i := range queries {
		q := new(dns.Msg).SetQuestion([]string{"WWW.example.net.", "www.EXAMPLE.net.", "nobody.example.net.", "version.bind."}[i%4], dns.TypeA)
		if i%4 == 3 {
			q.Question[0].Qclass = dns.ClassCHAOS
		}
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
	var s tree.Sample
	eventually(t, "the file has all of the queries", func() bool {
		b, err := os.ReadFile(stale)
		return err == nil && json.Unmarshal(b, &s) == nil && s.Queries > queries/2
	})
	text := string(tree.Encode(s))
	if strings.Contains(text, "127.0.0.1") || len(s.Questions) != 2 {
		t.Fatalf("the sample is %s, want two questions and no client", text)
	}
	for i, want := range []tree.SampleQuestion{
		{Was: "positive", Type: record.TypeA, Name: "\x03www\x07example\x03net\x00"}, {Was: "nxdomain", Type: record.TypeA, Name: "\x06nobody\x07example\x03net\x00"},
	} {
		got := s.Questions[i]
		want.Times = got.Times
		// 133 and 67 of 200, with a standard deviation of 6.7.
		if mean := []int{133, 67}[i]; got != want || got.Times < mean-34 || got.Times > mean+34 {
			t.Errorf("question %d is %v, want %v about %d times", i, got, want, mean)
		}
	}
	if span := time.Duration(s.To-s.From) * time.Millisecond; s.Drawn != 200 || span <= 0 || span > 2*minSampleWindow {
		t.Errorf("%d drawn within %s, want 200 within %s", s.Drawn, span, minSampleWindow)
	}
}

// TestSampleFits draws names that are too long for all to have room: what is left out is
// left out whatever the name is.
func TestSampleFits(t *testing.T) {
	var d sample.Draw
	const names = 2000
	for i := range names {
		long := i % 2 * 50
		name, err := record.ParseName(fmt.Sprintf("n%d.%s\\\"<.example.net.", i, strings.Repeat("x", 1+long)))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			d.Kept = append(d.Kept, sample.Ticket{Number: uint64(len(d.Kept)), Key: string(name) + "\x00\x01", Outcome: uint8(protocol.Positive)})
		}
	}
	d.Seen = 10 * uint64(len(d.Kept))
	s := sampleOf(d, time.UnixMilli(1), time.UnixMilli(2))
	b := tree.Encode(s)
	if len(b) > maxSample || len(b) < maxSample*9/10 {
		t.Errorf("the sample has %d octets, want nearly %d", len(b), maxSample)
	}
	if s.Queries != int64(d.Seen)*protocol.SampleEvery || s.Drawn != int64(3*len(s.Questions)) && s.Drawn != int64(3*len(s.Questions)-2) {
		t.Errorf("%d questions, %d drawn of %d", len(s.Questions), s.Drawn, s.Queries)
	}
	long := 0
	for _, q := range s.Questions {
		if len(q.Name) > 60 {
			long++
		}
	}
	if n := len(s.Questions); long < n/2-1 || long > n/2+1 {
		t.Errorf("%d of %d names are long ones, want half", long, n)
	}
	if len(tree.Encode(sampleOf(sample.Draw{}, time.UnixMilli(1), time.UnixMilli(2)))) == 0 {
		t.Error("an empty sample is nothing")
	}
}

// TestNoSample: who keeps no sample draws nothing, and takes away what there was.
func TestNoSample(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sampleFile), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := startHost(t, func(c *Config) { c.StatusDir, c.Sample = dir, 0 })
	h.ask("udp", "www.example.net.", dns.TypeA)
	h.workers.each(func(k *worker) {
		if k.sample != nil {
			t.Error("a worker draws questions")
		}
	})
	if _, err := os.Stat(filepath.Join(dir, sampleFile)); !os.IsNotExist(err) {
		t.Errorf("the file of an earlier life is still there: %v", err)
	}
	for _, c := range []struct {
		sample int
		window time.Duration
		good   bool
	}{{0, 0, true}, {1, 10 * time.Second, true}, {-1, time.Minute, false}, {sample.MaxKept + 1, time.Minute, false}, {1, time.Second, false}, {1, 2 * time.Hour, false}} {
		config := h.config
		config.Sample, config.SampleWindow = c.sample, c.window
		if err := config.Validate(); (err == nil) != c.good {
			t.Errorf("sample %d of %s: %v", c.sample, c.window, err)
		}
	}
}
