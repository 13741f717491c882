package authority

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/sample"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

// Each worker draws from its sampled queries for a part of the window; then all are
// joined, and the file has the draw of the last parts. It has questions, and nothing of who
// asks.
const (
	// sampleFile is the file beside "serving" that has tree.Sample.
	sampleFile = "sample"
	// sampleParts is how many times in a window the file is written.
	sampleParts = 5
	// maxSample bounds the file, in octets: half a node of the store. That is about
	// 1000 different questions of usual length.
	maxSample = 32 << 10
	// defaultSample and defaultSampleWindow: of a host that is asked 200 queries a second
	// and more, 1000 of five minutes tell a share of 1 % within 0.6 %.
	defaultSample       = 1000
	defaultSampleWindow = 5 * time.Minute
	// Of less there is little in it; what is older says little of what is asked now.
	minSampleWindow = 10 * time.Second
	maxSampleWindow = time.Hour
)

// sampling is what is kept of all workers.
type sampling struct {
	began   time.Time // of the part that is drawn now
	parts   []samplePart
	trouble string // last problem with the file that was logged
}

type samplePart struct {
	from time.Time
	draw sample.Draw
}

// sampledKey gives the key of a question that a share of the traffic is told of: of a
// query for class IN. Nil: it is none.
func sampledKey(key, query []byte) []byte {
	const header, opcode = 12, 0x78
	class := query[header+len(key):] // behind name and type
	if query[2]&opcode != 0 || len(class) < 2 || binary.BigEndian.Uint16(class) != 1 {
		return nil
	}
	return key
}

// sampleNow ends a part of the window when it is due, and writes the file.
func (s *Server) sampleNow(now time.Time) {
	a := &s.sampled
	if !s.config.samples() {
		return
	}
	if a.began.IsZero() {
		a.began = now
	}
	if now.Sub(a.began) < s.config.SampleWindow/sampleParts {
		return
	}
	var draws []sample.Draw
	s.workers.each(func(k *worker) { draws = append(draws, k.sample.Take()) })
	if len(a.parts) == sampleParts {
		a.parts = slices.Delete(a.parts, 0, 1)
	}
	a.parts = append(a.parts, samplePart{a.began, sample.Join(s.config.Sample, draws...)})
	a.began = now
	draws = draws[:0]
	for _, p := range a.parts {
		draws = append(draws, p.draw)
	}
	err := writeSample(s.config.StatusDir, sampleOf(sample.Join(s.config.Sample, draws...), a.parts[0].from, now))
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != a.trouble {
		s.log.Warn("sample of questions not written", "error", err)
	}
	a.trouble = text
}

// sampleOf joins equal questions. What does not fit is left out by the order of the
// tickets, so that what is left is a draw, too.
func sampleOf(d sample.Draw, from, to time.Time) tree.Sample {
	out := tree.Sample{From: from.UnixMilli(), To: to.UnixMilli(), Queries: int64(d.Seen) * protocol.SampleEvery, Questions: []tree.SampleQuestion{}}
	at := map[string]int{}
	room := maxSample - len(tree.Encode(out)) - len("1000000")
	for _, x := range d.Kept {
		if i, known := at[x.Key]; known {
			out.Questions[i].Times++
			out.Drawn++
			continue
		}
		n := len(x.Key) - 2
		name, _, err := record.NameFromWire([]byte(x.Key[:n]))
		if err != nil {
			continue // cannot be: it was answered
		}
		q := tree.SampleQuestion{Times: 1, Was: protocol.Outcome(x.Outcome).String(), Type: record.Type(binary.BigEndian.Uint16([]byte(x.Key[n:]))), Name: name}
		if room -= len(tree.Encode(q)) + len(",") + len("1000"); room < 0 {
			break
		}
		at[x.Key] = len(out.Questions)
		out.Questions = append(out.Questions, q)
		out.Drawn++
	}
	slices.SortStableFunc(out.Questions, func(a, b tree.SampleQuestion) int { return cmp.Compare(b.Times, a.Times) })
	return out
}

// writeSample replaces the file. It is not synced: it is old after a crash.
func writeSample(dir string, s tree.Sample) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode sample: %w", err)
	}
	path := filepath.Join(dir, sampleFile)
	if err := os.WriteFile(path+".tmp", b, 0o644); err != nil {
		return fmt.Errorf("write sample: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write sample: %w", err)
	}
	return nil
}
