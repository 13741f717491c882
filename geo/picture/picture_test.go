package picture

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// islands is a world of two countries.
func islands() []outline {
	square := func(x, y, size float64) []point {
		return []point{{x, y}, {x + size, y}, {x + size, y + size}, {x, y + size}}
	}
	return []outline{{"AA", [][]point{square(-60, 0, 40)}}, {"BB", [][]point{square(20, -20, 30), square(100, 40, 10)}}, {"CC", [][]point{square(60, 0, 10)}}}
}

func example() *Picture {
	return &Picture{
		Title: `PoPs & "users" <of two islands>`, Note: "an example", Loaded: true,
		PoPs: []PoP{
			{Name: "one", Latitude: 20, Longitude: -40, Capacity: 100, Load: 72},
			{Name: "<two>", Latitude: 0, Longitude: 30, Capacity: 400, Load: 500},
			{Name: "three", Latitude: 45, Longitude: 105, Capacity: 50, Drained: true},
		},
		Countries: map[string]Country{"AA": {Shares: []float64{9, 1, 0}, RTT: 12}, "BB": {Shares: []float64{1, 1.5, 0}, RTT: 95}, "ZZ": {Shares: []float64{0, 1, 0}, RTT: -1}},
	}
}

func TestGolden(t *testing.T) {
	for name, shows := range map[string]Kind{"assignment": Assignment, "latency": Latency} {
		p := example()
		p.Shows = shows
		got, err := p.draw(islands())
		if err != nil {
			t.Fatal(err)
		}
		file := "testdata/" + name + ".svg"
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// texts are all texts of a document; it must be well formed.
func texts(t *testing.T, b []byte) (all []string) {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader(b))
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := tok.(xml.CharData); ok {
			all = append(all, string(c))
		}
	}
}

func TestWholeWorld(t *testing.T) {
	p := example()
	for i := range 60 {
		p.PoPs = append(p.PoPs, PoP{Name: strings.Repeat("x", i), Latitude: float64(i%120 - 60), Longitude: float64(i*37%360 - 180), Capacity: float64(i), Load: 3})
	}
	p.Countries["CH"] = Country{Shares: []float64{1}, RTT: 3}
	a, err := p.SVG()
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.SVG()
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("drawn twice, it differs (%v)", err)
	}
	if len(a) > 200_000 {
		t.Errorf("%d octets", len(a))
	}
	all := texts(t, a)
	for _, want := range []string{`PoPs & "users" <of two islands>`, "<two>", "125 %: over", "CH: 3 ms, one 100 %"} {
		if !slices.Contains(all, want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
	if bytes.Contains(a, []byte("NaN")) || bytes.Contains(a, []byte("Inf")) {
		t.Error("a number that is none")
	}
}

func TestHostileNames(t *testing.T) {
	p := example()
	p.PoPs[0].Name = "\x00\x1b]0;x\x07\"/><script>alert(1)</script>\xff\uFFFE"
	p.Title, p.Note = p.PoPs[0].Name, p.PoPs[0].Name
	b, err := p.draw(islands())
	if err != nil {
		t.Fatal(err)
	}
	texts(t, b)
	if bytes.Contains(b, []byte("<script")) || bytes.ContainsAny(b, "\x00\x1b\x07") {
		t.Error("a name got into the picture as it was")
	}
}

func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*Picture){
		"no PoPs":      func(p *Picture) { p.PoPs = nil },
		"too many":     func(p *Picture) { p.PoPs = make([]PoP, MaxPoPs+1) },
		"no number":    func(p *Picture) { p.PoPs[0].Load = math.NaN() },
		"infinite":     func(p *Picture) { p.PoPs[0].Capacity = math.Inf(1) },
		"off the map":  func(p *Picture) { p.PoPs[0].Latitude = 91 },
		"off the map.": func(p *Picture) { p.PoPs[0].Longitude = -181 },
	} {
		p := example()
		change(p)
		if _, err := p.draw(islands()); err == nil {
			t.Errorf("%s: drawn, expected an error", name)
		}
	}
}

// TestEqualEarth has figures of the projection's paper: the extents and the ratio of width
// to height; and areas are as on the globe.
func TestEqualEarth(t *testing.T) {
	if x, y := equalEarth(180, 0).x, equalEarth(0, 90).y; math.Abs(x-2.70663) > 1e-4 || math.Abs(y-1.31737) > 1e-4 {
		t.Errorf("extents %g and %g", x, y)
	}
	for _, latitude := range []float64{0, 23, 45, 60, 80} {
		const step = 0.01
		a, b := equalEarth(0, latitude), equalEarth(step, latitude)
		c := equalEarth(0, latitude+step)
		area := (b.x - a.x) * (c.y - a.y)
		globe := math.Cos((latitude+step/2)*math.Pi/180) * math.Pow(step*math.Pi/180, 2)
		if math.Abs(area/globe-1) > 1e-3 {
			t.Errorf("at %g degrees areas are %g of those of the globe", latitude, area/globe)
		}
	}
}

func TestWorld(t *testing.T) {
	codes := map[string]int{}
	for _, o := range world() {
		codes[o.code]++
		for _, r := range o.rings {
			for _, p := range r {
				if math.Abs(p.x) > 180 || math.Abs(p.y) > 90 {
					t.Errorf("%s at %v", o.code, p)
				}
			}
			for i, p := range r { // none crosses the antimeridian
				if q := r[(i+1)%len(r)]; math.Abs(p.x-q.x) > 90 {
					t.Errorf("%s goes from %v to %v", o.code, p, q)
				}
			}
		}
	}
	if len(codes) != 174 || codes["CH"] != 1 || codes["--"] != 3 {
		t.Errorf("%d codes: %v", len(codes), codes)
	}
	for n := 0; n < len(worldFile); n += 991 {
		if _, err := parseWorld(worldFile[:n]); err == nil {
			t.Fatalf("%d octets of it are read as all", n)
		}
	}
}
