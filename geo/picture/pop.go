package picture

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Radius of a PoP in tenths of a pixel: its area is as its capacity.
const (
	leastRadius = 60
	mostRadius  = 170
)

// box is where something is on the page.
type box struct{ left, top, right, bottom float64 }

func (b box) overlaps(c box) bool {
	return b.left < c.right && c.left < b.right && b.top < c.bottom && c.top < b.bottom
}

const labelSize = 150

// widthOf is about how wide a text is.
func widthOf(text string, size float64) float64 { return 0.56 * size * float64(len([]rune(text))) }

// pops draws the PoPs, the largest first, and puts labels where there is room.
func (d *drawing) pops() {
	most := 0.0
	for _, p := range d.PoPs {
		most = max(most, p.Capacity)
	}
	order := make([]int, len(d.PoPs))
	at := make([]point, len(d.PoPs))
	radius := make([]float64, len(d.PoPs))
	var taken []box
	for i, p := range d.PoPs {
		order[i] = i
		at[i] = onPage(p.Longitude, min(max(p.Latitude, south), north))
		if radius[i] = leastRadius; most > 0 && p.Capacity > 0 {
			radius[i] = max(leastRadius, mostRadius*math.Sqrt(p.Capacity/most))
		}
		r := radius[i] + 10
		taken = append(taken, box{at[i].x - r, at[i].y - r, at[i].x + r, at[i].y + r})
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(d.PoPs[b].Capacity, d.PoPs[a].Capacity), cmp.Compare(d.PoPs[a].Name, d.PoPs[b].Name))
	})
	for _, i := range order {
		d.gauge(i, at[i], radius[i])
	}
	for _, i := range order {
		lines := []string{clip(d.PoPs[i].Name, 24)}
		if s := d.state(d.PoPs[i]); s != "" {
			lines = append(lines, s)
		}
		x, y, anchor := place(at[i], radius[i], lines, taken, i)
		w := widest(lines)
		b := box{x, y - labelSize, x + w, y + float64(len(lines)-1)*labelSize + 30}
		switch anchor {
		case "end":
			b.left, b.right = x-w, x
		case "middle":
			b.left, b.right = x-w/2, x+w/2
		}
		taken = append(taken, b)
		for n, line := range lines {
			weight := "bold"
			if n > 0 {
				weight = "normal"
			}
			d.printf(`<text x="%.0f" y="%.0f" font-size="%d" font-weight="%s" text-anchor="%s" fill="#111111" stroke="#ffffff" stroke-width="40" stroke-linejoin="round" paint-order="stroke">%s</text>`+"\n",
				x, y+float64(n)*labelSize, labelSize, weight, anchor, escape(line))
		}
	}
}

func widest(lines []string) (w float64) {
	for _, l := range lines {
		w = max(w, widthOf(l, labelSize))
	}
	return w
}

// place finds where a label covers nothing: beside its PoP, above or below, then farther
// away. Where nothing is free it is on the right.
func place(at point, r float64, lines []string, taken []box, own int) (x, y float64, anchor string) {
	w, h := widest(lines), float64(len(lines))*labelSize
	for _, far := range []float64{30, 130, 260} {
		for _, c := range []struct {
			x, y   float64
			anchor string
		}{
			{at.x + r + far, at.y + 50 - (h-labelSize)/2, "start"},
			{at.x - r - far, at.y + 50 - (h-labelSize)/2, "end"},
			{at.x, at.y - r - far - (h - labelSize), "middle"},
			{at.x, at.y + r + far + 0.75*labelSize, "middle"},
			{at.x + 0.7*r + far, at.y - 0.7*r - far - (h - labelSize) + 50, "start"},
			{at.x + 0.7*r + far, at.y + 0.7*r + far + 100, "start"},
			{at.x - 0.7*r - far, at.y - 0.7*r - far - (h - labelSize) + 50, "end"},
			{at.x - 0.7*r - far, at.y + 0.7*r + far + 100, "end"},
		} {
			left := c.x
			switch c.anchor {
			case "end":
				left -= w
			case "middle":
				left -= w / 2
			}
			b := box{left, c.y - labelSize, left + w, c.y + h - labelSize + 30}
			free := b.left > margin && b.right < pageWidth-margin
			for k, t := range taken {
				free = free && (k == own && far == 30 || !b.overlaps(t))
			}
			if free {
				return c.x, c.y, c.anchor
			}
		}
	}
	return at.x + r + 30, at.y + 50, "start"
}

// gauge draws a PoP: a disc as large as its capacity, filled like a clock as far as it is
// loaded.
func (d *drawing) gauge(i int, c point, r float64) {
	p := d.PoPs[i]
	edge, width := "#111111", 18
	if d.Loaded && p.Load > p.Capacity {
		edge, width = "#cc0000", 45
	}
	d.printf(`<g><title>%s</title><circle cx="%.0f" cy="%.0f" r="%.0f" fill="#ffffff"/>`, escape(strings.TrimSpace(p.Name+" "+d.state(p))+fmt.Sprintf(", capacity %g", p.Capacity)), c.x, c.y, r)
	part := 1.0
	if d.Loaded && p.Capacity > 0 {
		part = min(max(p.Load/p.Capacity, 0), 1)
	}
	switch {
	case p.Drained:
	case part >= 0.999:
		d.printf(`<circle cx="%.0f" cy="%.0f" r="%.0f" fill="url(#p%d)"/>`, c.x, c.y, r, i)
	case part > 0:
		a, large := 2*math.Pi*part, 0
		if part > 0.5 {
			large = 1
		}
		d.printf(`<path d="M%.0f %.0fV%.0fA%.0f %.0f 0 %d 1 %.0f %.0fZ" fill="url(#p%d)"/>`, c.x, c.y, c.y-r, r, r, large, c.x+r*math.Sin(a), c.y-r*math.Cos(a), i)
	}
	d.printf(`<circle cx="%.0f" cy="%.0f" r="%.0f" fill="none" stroke="%s" stroke-width="%d"/>`, c.x, c.y, r, edge, width)
	if s := 0.7 * r; p.Drained {
		d.printf(`<path d="M%.0f %.0fL%.0f %.0fM%.0f %.0fL%.0f %.0f" stroke="#111111" stroke-width="24"/>`, c.x-s, c.y-s, c.x+s, c.y+s, c.x-s, c.y+s, c.x+s, c.y-s)
	}
	d.printf("</g>\n")
}

// legend tells what is what, below the map.
func (d *drawing) legend(top float64, missing []string) {
	y := top
	text := func(x, y float64, size int, fill, s string) {
		d.printf(`<text x="%.0f" y="%.0f" font-size="%d" fill="%s">%s</text>`+"\n", x, y, size, fill, escape(s))
	}
	if d.Shows == Latency {
		text(margin, y+110, 150, "#222222", "Mean round-trip time to the PoP that serves, in milliseconds:")
		const w = 900.0
		x := float64(margin) + 4600
		for i, f := range heat {
			d.printf(`<rect x="%.0f" y="%.0f" width="%.0f" height="140" fill="%s" stroke="#777777" stroke-width="6"/>`+"\n", x, y-20, w, f)
			if i < len(steps) {
				d.printf(`<text x="%.0f" y="%.0f" font-size="130" text-anchor="middle" fill="#222222">%g</text>`+"\n", x+w, y+250, steps[i])
			}
			x += w
		}
		y += 400
	}
	const column = float64(mapWidth) / columns
	for i, p := range d.PoPs {
		x := margin + float64(i%columns)*column
		row := y + float64(i/columns)*legendStep
		d.printf(`<rect x="%.0f" y="%.0f" width="300" height="180" fill="url(#p%d)" stroke="#555555" stroke-width="8"/>`+"\n", x, row, i)
		text(x+380, row+110, 150, "#111111", clip(p.Name, 20))
		s := d.state(p)
		if d.Loaded && !p.Drained {
			s += fmt.Sprintf(" (%s of %s)", figure(p.Load), figure(p.Capacity))
		} else if !d.Loaded {
			s = strings.TrimSpace(s + " capacity " + figure(p.Capacity))
		}
		text(x+380, row+240, 120, "#555555", s)
	}
	y += float64((len(d.PoPs)+columns-1)/columns)*legendStep + 180
	about := "A disc is as large as the PoP's capacity, and filled as far as it is loaded; a thick edge is over capacity, a cross is drained."
	if !d.Loaded {
		about = "A disc is as large as the PoP's capacity; a cross is drained."
	}
	if d.Shows == Assignment {
		about += fmt.Sprintf(" Dashed: no PoP serves %.0f %% of the country.", 100*divided)
	}
	text(margin, y, 130, "#555555", about)
	about = "Grey: nothing is known."
	if len(missing) > 0 {
		more := ""
		if n := len(missing); n > 24 {
			missing, more = missing[:24], fmt.Sprintf(" and %d more", n-24)
		}
		about += " Too small for this map: " + strings.Join(missing, " ") + more + "."
	}
	text(margin, y+180, 130, "#555555", about+" Outlines: Natural Earth.")
}

// figure is a number in few digits.
func figure(v float64) string {
	for _, u := range []struct {
		of   float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= u.of {
			return fmt.Sprintf("%.3g%s", v/u.of, u.name)
		}
	}
	return fmt.Sprintf("%.3g", v)
}
