package standin

import (
	"iter"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dataset is a whole one, as a Reader.
type dataset map[record.Key]record.RRset

func (d dataset) At(name record.Name) (sets []record.RRset) {
	for k, s := range d {
		if k.Owner == name {
			sets = append(sets, s)
		}
	}
	return sets
}

func (d dataset) Below(name record.Name) iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		for k := range d {
			if k.Owner != name && k.Owner.IsSubdomainOf(name) && !yield(k.Owner) {
				return
			}
		}
	}
}

// whole is a stand-in whose image has all of the dataset.
func (d dataset) whole(t interface{ Fatal(...any) }, dir string) *Server {
	sets := []record.Set{}
	for _, r := range d {
		sets = append(sets, record.Set{RRset: r})
	}
	im, err := imagetest.Build(filepath.Join(dir, "image"), sets, image.Options{NoSync: true, Own: true})
	if err != nil {
		t.Fatal(err)
	}
	return &Server{view: data.NewDataset(im), worker: protocol.NewWorker(protocol.Config{})}
}

// recorder keeps what was answered last to each question.
type recorder struct {
	*Server
	answers map[question]string
}

type question struct {
	name record.Name
	t    record.Type
}

func (r recorder) Ask(name record.Name, t record.Type) []byte {
	b := r.Server.Ask(name, t)
	r.answers[question{name, t}] = string(b)
	return b
}

// drawName draws names that meet each other often: few labels, wildcards, up to four deep.
func drawName(t *rapid.T, what string) record.Name {
	name := record.Root
	for range rapid.IntRange(0, 4).Draw(t, what) {
		name, _ = name.Child(rapid.SampledFrom([]string{"a", "a", "b", "*"}).Draw(t, "label"))
	}
	return name
}

func drawRRset(t *rapid.T) record.RRset {
	owner := drawName(t, "owner")
	typ := rapid.SampledFrom([]record.Type{
		record.TypeSOA, record.TypeNS, record.TypeNS, record.TypeA, record.TypeA, record.TypeCNAME, record.TypeCNAME, record.TypeDNAME, record.TypeMX, record.TypeDS,
	}).Draw(t, "type")
	target := drawName(t, "target").String()
	text := map[record.Type]string{
		record.TypeSOA: "a. b. 1 2 3 4 5", record.TypeNS: target, record.TypeA: rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.2"}).Draw(t, "address"),
		record.TypeCNAME: target, record.TypeDNAME: target, record.TypeMX: "10 " + target, record.TypeDS: "1 8 2 " + strings.Repeat("00", 32),
	}[typ]
	if typ == record.TypeSOA && rapid.Bool().Draw(t, "serial") {
		text = "a. b. 2 2 3 4 5"
	}
	rd, err := dnswire.ParseRdata(typ, text, record.Root)
	if err != nil {
		t.Fatal(err)
	}
	return record.NewRRset(owner, typ, rapid.SampledFrom([]uint32{60, 300}).Draw(t, "ttl"), rd)
}

// TestVerdicts draws two datasets and all kinds of questions: what the parts of them answer,
// that replay asks, is record by record what two hosts answer that have all of them, and so
// are the verdicts.
func TestVerdicts(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		before, after, otherwise := dataset{}, dataset{}, replay.Otherwise{}
		if rapid.Bool().Draw(t, "root zone") {
			rd, _ := dnswire.ParseRdata(record.TypeSOA, "a. b. 1 2 3 4 5", record.Root)
			soa := record.NewRRset(record.Root, record.TypeSOA, 300, rd)
			before[soa.Key], after[soa.Key] = soa, soa
		}
		for range rapid.IntRange(0, 12).Draw(t, "RRsets") {
			r := drawRRset(t)
			before[r.Key], after[r.Key] = r, r
		}
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			switch keys := slices.SortedFunc(maps.Keys(after), record.Key.Compare); {
			case len(keys) > 0 && rapid.Bool().Draw(t, "remove"):
				k := rapid.SampledFrom(keys).Draw(t, "key")
				delete(after, k)
				otherwise[k] = nil
			default:
				r := drawRRset(t)
				after[r.Key] = r
				otherwise[r.Key] = &r
			}
		}
		was, is := before.whole(t, dir), after.whole(t, dir)
		var s tree.Sample
		kinds := map[replay.Kind]int{}
		asked := map[question]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "questions") {
			q := question{drawName(t, "question"), rapid.SampledFrom([]record.Type{
				record.TypeA, record.TypeA, record.TypeSOA, record.TypeNS, record.TypeCNAME, record.TypeDNAME, record.TypeMX, record.TypeDS, record.TypeANY, record.TypeTXT,
			}).Draw(t, "qtype")}
			if asked[q] {
				continue
			}
			asked[q] = true
			s.Questions = append(s.Questions, tree.SampleQuestion{Times: 1, Was: "positive", Type: q.t, Name: q.name})
			kind, err := replay.Compare(slices.Clone(was.Ask(q.name, q.t)), is.Ask(q.name, q.t), q.t)
			if err != nil {
				t.Fatal(err)
			}
			if kind != "" {
				kinds[kind]++
			}
		}
		s.To, s.Queries = 1000, int64(64*len(s.Questions))
		var parts []recorder
		e, err := replay.Of(replay.Join([]tree.Sample{s}), before, nil, otherwise, func() (replay.Server, error) {
			r, err := New()
			parts = append(parts, recorder{r, map[question]string{}})
			return parts[len(parts)-1], err
		})
		if err != nil {
			t.Fatal(err)
		}
		for q := range asked {
			for i, full := range []*Server{was, is} {
				if _, known := parts[i].answers[q]; !known {
					continue // it need not be asked
				}
				want, err := dnswire.ParseResponse(full.Ask(q.name, q.t))
				if err != nil {
					t.Fatal(err)
				}
				got, err := dnswire.ParseResponse([]byte(parts[i].answers[q]))
				if err != nil {
					t.Fatal(err)
				}
				want.Size, got.Size = 0, 0 // an owner may be written out or pointed at
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s %s in state %d: -all of it +the part\n%s", q.name, q.t, i, diff)
				}
			}
		}
		otherwiseCount := 0
		for kind, n := range kinds {
			otherwiseCount += n
			i := slices.IndexFunc(e.Kinds, func(k replay.KindShare) bool { return k.Kind == kind })
			if i < 0 || math.Abs(e.Kinds[i].Share-float64(n)/float64(len(asked))) > 1e-9 {
				t.Fatalf("%d of %d questions are %s otherwise, kinds are %v", n, len(asked), kind, e.Kinds)
			}
		}
		if len(e.Kinds) != len(kinds) || len(e.Examples)+e.More != otherwiseCount || math.Abs(e.Share-float64(otherwiseCount)/float64(len(asked))) > 1e-9 {
			t.Fatalf("%+v, want %d of %d, %v", e, otherwiseCount, len(asked), kinds)
		}
	})
}
