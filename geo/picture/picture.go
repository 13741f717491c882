package picture

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Kind is what countries are coloured by.
type Kind uint8

const (
	// Assignment: by the PoP that serves most of a country.
	Assignment Kind = iota
	// Latency: by the mean round-trip time to the PoPs that serve it.
	Latency
)

// Picture is what is drawn.
type Picture struct {
	Title string
	Note  string // a line below it, such as where the figures are from
	Shows Kind
	PoPs  []PoP
	// Countries are those of which something is known, by ISO 3166-1 code.
	Countries map[string]Country
	// Loaded tells that the loads of PoPs are known.
	Loaded bool
}

// PoP is a point of presence.
type PoP struct {
	Name                string
	Latitude, Longitude float64 // degrees
	Capacity            float64
	Load                float64 // in the unit of Capacity
	Drained             bool
}

// Country is what is known of a country.
type Country struct {
	// Shares is what each PoP serves of it, in the order of Picture.PoPs, in any unit.
	Shares []float64
	// RTT is the mean round-trip time in milliseconds; negative: not known.
	RTT float64
}

// The page, in tenths of a pixel.
const (
	pageWidth  = 12400
	margin     = 200
	mapWidth   = pageWidth - 2*margin
	mapTop     = 900
	legendStep = 300
	columns    = 4
)

// MaxPoPs bounds what is drawn: more cannot be told apart.
const MaxPoPs = 200

// SVG draws the picture.
func (p *Picture) SVG() ([]byte, error) { return p.draw(world()) }

func (p *Picture) draw(outlines []outline) ([]byte, error) {
	if len(p.PoPs) == 0 || len(p.PoPs) > MaxPoPs {
		return nil, fmt.Errorf("%d PoPs, expected 1 to %d", len(p.PoPs), MaxPoPs)
	}
	for _, x := range p.PoPs {
		for _, v := range []float64{x.Latitude, x.Longitude, x.Capacity, x.Load} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("PoP %q: %v is no number that can be drawn", x.Name, v)
			}
		}
		if math.Abs(x.Latitude) > 90 || math.Abs(x.Longitude) > 180 {
			return nil, fmt.Errorf("PoP %q is at %g, %g, expected a latitude of -90 to 90 and a longitude of -180 to 180", x.Name, x.Latitude, x.Longitude)
		}
	}
	d := drawing{Picture: p}
	rows := (len(p.PoPs) + columns - 1) / columns
	legendTop := mapTop + mapHeight() + 150
	height := legendTop + float64(rows+1)*legendStep + 250
	if p.Shows == Latency {
		height += 300
	}
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f" font-family="Helvetica, Arial, 'Liberation Sans', sans-serif" role="img">`+"\n", pageWidth, height, pageWidth/10, height/10)
	d.printf("<title>%s</title>\n<desc>%s</desc>\n", escape(p.Title), escape(p.describe()))
	d.patterns()
	d.printf(`<rect width="%d" height="%.0f" fill="#ffffff"/>`+"\n", pageWidth, height)
	d.printf(`<text x="%d" y="420" font-size="300" font-weight="bold" fill="#222222">%s</text>`+"\n", margin, escape(p.Title))
	d.printf(`<text x="%d" y="700" font-size="170" fill="#555555">%s</text>`+"\n", margin, escape(p.Note))
	d.sea()
	missing := d.countries(outlines)
	d.pops()
	d.legend(legendTop, missing)
	d.printf("</svg>\n")
	return []byte(d.b.String()), nil
}

// describe is the picture in words, for those who do not see it.
func (p *Picture) describe() string {
	var all []string
	for _, x := range p.PoPs {
		all = append(all, x.Name+" "+p.state(x))
	}
	return strings.Join(all, "; ")
}

// state is a PoP's load in words.
func (p *Picture) state(x PoP) string {
	switch {
	case x.Drained:
		return "drained"
	case !p.Loaded:
		return ""
	case x.Capacity <= 0 && x.Load > 0:
		return "over: no capacity"
	case x.Capacity <= 0:
		return "no capacity"
	case x.Load > x.Capacity:
		return fmt.Sprintf("%.0f %%: over", 100*x.Load/x.Capacity)
	}
	return fmt.Sprintf("%.0f %%", 100*x.Load/x.Capacity)
}

// drawing is a picture on its way.
type drawing struct {
	*Picture
	b strings.Builder
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

// escape makes a text one of XML. Octets that XML has no form for become U+FFFD.
func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a Builder takes all
	return b.String()
}

// clip shortens a name for its place in the picture.
func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// colours of PoPs, for people who see few colours as well (P. Tol's bright and muted
// schemes); the hatchings are for those who see none.
var colours = []string{"#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#dd7733", "#88ccaa", "#882255", "#999933", "#6655aa"}

const hatchings = 7

// patterns are the fills of PoPs: a colour under a hatching. Eleven colours and seven
// hatchings are 77 fills.
func (d *drawing) patterns() {
	d.printf("<defs>\n")
	for i := range d.PoPs {
		d.printf(`<pattern id="p%d" width="80" height="80" patternUnits="userSpaceOnUse"><rect width="80" height="80" fill="%s"/>`, i, colours[i%len(colours)])
		const line = `<path d="%s" stroke="#ffffff" stroke-opacity="0.75" stroke-width="%d" fill="none"/>`
		switch i % hatchings {
		case 1:
			d.printf(line, "M-20 20L20-20M0 80L80 0M60 100L100 60", 14)
		case 2:
			d.printf(line, "M-20 60L20 100M0 0L80 80M60-20L100 20", 14)
		case 3:
			d.printf(`<circle cx="20" cy="20" r="13" fill="#ffffff" fill-opacity="0.8"/><circle cx="60" cy="60" r="13" fill="#ffffff" fill-opacity="0.8"/>`)
		case 4:
			d.printf(line, "M0 20H80M0 60H80", 14)
		case 5:
			d.printf(line, "M20 0V80M60 0V80", 14)
		case 6:
			d.printf(line, "M0 40H80M40 0V80", 12)
		}
		d.printf("</pattern>\n")
	}
	d.printf("</defs>\n")
}

// sea is the outline of the map and a graticule of 30 degrees.
func (d *drawing) sea() {
	edge := func(longitude float64, from, to float64) string {
		var b strings.Builder
		step := 3.0
		if to < from {
			step = -step
		}
		for l := from; ; l += step {
			if l = min(max(l, min(from, to)), max(from, to)); b.Len() > 0 {
				b.WriteString("L")
			}
			q := onPage(longitude, l)
			fmt.Fprintf(&b, "%.0f %.0f", q.x, q.y)
			if l == to {
				return b.String()
			}
		}
	}
	d.printf(`<path d="M%sL%sZ" fill="#f2f5f8" stroke="#c4ccd4" stroke-width="10"/>`+"\n", edge(-180, south, north), edge(180, north, south))
	d.printf(`<path d="`)
	for l := -150.0; l <= 150; l += 30 {
		d.printf("M%s", edge(l, south, north))
	}
	for l := -30.0; l <= 60; l += 30 {
		a, b := onPage(-180, l), onPage(180, l)
		d.printf("M%.0f %.0fL%.0f %.0f", a.x, a.y, b.x, b.y)
	}
	d.printf(`" fill="none" stroke="#dde3e9" stroke-width="6"/>` + "\n")
}

// steps of round-trip time in milliseconds, and their fills: the darker the farther.
var (
	steps = []float64{10, 20, 40, 60, 90, 130, 200}
	heat  = []string{"#fff7d6", "#fee39b", "#fcc05f", "#f5943c", "#de6a2b", "#b8431f", "#852714", "#4a120a"}
)

func heatOf(ms float64) int {
	i, found := slices.BinarySearch(steps, ms)
	if found {
		i++
	}
	return i
}

// most is the PoP that serves most of a country, and its part; -1: none does.
func (c Country) most() (pop int, part float64) {
	pop = -1
	sum, best := 0.0, 0.0
	for i, s := range c.Shares {
		if sum += s; s > best {
			pop, best = i, s
		}
	}
	if pop < 0 {
		return -1, 0
	}
	return pop, best / sum
}

// fill is that of a country; "": nothing is known.
func (d *drawing) fill(c Country) string {
	if d.Shows == Latency {
		if c.RTT < 0 {
			return ""
		}
		return heat[heatOf(c.RTT)]
	}
	if pop, _ := c.most(); pop >= 0 && pop < len(d.PoPs) {
		return fmt.Sprintf("url(#p%d)", pop)
	}
	return ""
}

// divided is below which part a country counts as shared by PoPs.
const divided = 0.8

// countries draws them, and gives the codes of those that are known and have no outline.
func (d *drawing) countries(outlines []outline) (missing []string) {
	drawn := map[string]bool{}
	for _, o := range outlines {
		drawn[o.code] = true
		c, known := d.Countries[o.code]
		fill, class := "#d9d9d9", ""
		if known {
			if f := d.fill(c); f != "" {
				fill = f
			}
			if pop, part := c.most(); d.Shows == Assignment && pop >= 0 && part < divided {
				class = ` stroke="#222222" stroke-width="16" stroke-dasharray="40 30"`
			}
		}
		if class == "" {
			class = ` stroke="#ffffff" stroke-width="8"`
		}
		d.printf(`<path d="%s" fill="%s"%s stroke-linejoin="round"><title>%s</title></path>`+"\n", outlinePath(o), fill, class, escape(d.tell(o.code, c, known)))
	}
	for code := range d.Countries {
		if !drawn[code] {
			missing = append(missing, code)
		}
	}
	slices.Sort(missing)
	return missing
}

// tell is what is known of a country, in words.
func (d *drawing) tell(code string, c Country, known bool) string {
	if !known {
		return code
	}
	var all []string
	if c.RTT >= 0 {
		all = append(all, fmt.Sprintf("%.0f ms", c.RTT))
	}
	sum := 0.0
	order := make([]int, 0, len(c.Shares))
	for i, s := range c.Shares {
		if sum += s; s > 0 && i < len(d.PoPs) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.Shares[b], c.Shares[a]) })
	for _, i := range order[:min(4, len(order))] {
		all = append(all, fmt.Sprintf("%s %.0f %%", d.PoPs[i].Name, 100*c.Shares[i]/sum))
	}
	return code + ": " + strings.Join(all, ", ")
}

// outlinePath is the path of a country: whole numbers, each relative to the one before.
func outlinePath(o outline) string {
	var b strings.Builder
	for _, ring := range o.rings {
		x, y := 0, 0
		for i, p := range ring {
			q := onPage(p.x, min(max(p.y, south), north))
			qx, qy := int(math.Round(q.x)), int(math.Round(q.y))
			switch {
			case i == 0:
				fmt.Fprintf(&b, "M%d %dl", qx, qy)
			case qx == x && qy == y:
				continue
			case qy-y < 0:
				fmt.Fprintf(&b, "%d%d ", qx-x, qy-y)
			default:
				fmt.Fprintf(&b, "%d %d ", qx-x, qy-y)
			}
			x, y = qx, qy
		}
		b.WriteString("z")
	}
	return b.String()
}
