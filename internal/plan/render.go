package plan

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// form is a way to write a plan. own is text of this package; foreign is of any origin, and
// is made harmless.
type form interface {
	head(own string) string
	line(own, foreign string) string
	// begin and end are around items, of which own and foreign say what they are. Important
	// ones are seen without being asked for.
	begin(own, foreign string, items int, important bool) string
	item(foreign string) string
	end() string
	// table has a row for each zone.
	table(zones []Zone) string
}

// tableRows bounds the table of zones: it is an overview.
const tableRows = 50

// page is a plan that is being written.
type page struct {
	form
	b    strings.Builder
	room int // octets that are left; negative: enough
	left int // items that found no room
}

// tail is what a page keeps for its last line, in octets.
const tail = 200

func (g *page) put(s string) { g.b.WriteString(s) }

func (g *page) fits(s string) bool { return g.room < 0 || g.b.Len()+len(s)+tail <= g.room }

// say writes a line, when there is room for it.
func (g *page) say(s string) {
	if g.fits(s) {
		g.put(s)
	} else {
		g.left++
	}
}

// list writes items, and how many more there are.
func (g *page) list(own, foreign string, items []string, more int, important bool) {
	if len(items)+more == 0 {
		return
	}
	begin, end := g.begin(own, foreign, len(items), important), g.end()
	if !g.fits(begin + end) {
		g.left += len(items) + more
		return
	}
	g.put(begin)
	for i, s := range items {
		// What follows needs room, too.
		if s = g.item(s); !g.fits(s + end + g.item(andMore(len(items)+more))) {
			more += len(items) - i
			break
		}
		g.put(s)
	}
	if more > 0 {
		g.put(g.item(andMore(more)))
	}
	g.put(end)
}

func andMore(n int) string { return fmt.Sprintf("and %d more", n) }

// write writes the plan in at most room octets; 0: in as many as it takes.
func (p *Plan) write(w io.Writer, f form, room int) error {
	if room == 0 {
		room = -1
	}
	g := &page{form: f, room: room}
	if p.Empty() {
		g.put(f.line("nothing changes", ""))
		_, err := io.WriteString(w, g.b.String())
		return err
	}
	g.put(f.head(p.summary()))
	if len(p.Zones) > 0 {
		g.say(f.table(p.Zones[:min(len(p.Zones), tableRows)]))
		if n := p.ZoneCount - min(len(p.Zones), tableRows); n > 0 {
			g.say(f.line(fmt.Sprintf("and %s more", count(n, "zone", "zones")), ""))
		}
	}
	var held []string
	for _, h := range p.Held {
		held = append(held, h.Why...)
	}
	g.list("guards would hold it", "", held, p.MoreHeld, true)
	g.list("it would wait", "", p.Waits, 0, true)
	g.list("rules fail, and what they claimed before stays, for", "", p.Fails, 0, true)
	g.list("claims that do not hold as they are", "", p.losing(), p.MoreLosing, true)
	g.list("conflicts that begin", "", p.Begin, p.MoreBegin, false)
	g.list("conflicts that end", "", p.End, p.MoreEnd, false)
	p.trafficText(g)
	for _, n := range p.Notes {
		g.say(f.line("note: ", n))
	}
	var configs []string
	for _, c := range p.Configurations {
		configs = append(configs, fmt.Sprintf("%s %s (%s)", mark(c.Kind), c.Path, c.Type))
	}
	g.list("configurations", "", configs, p.MoreConfigurations, false)
	for i := range p.Zones {
		z := &p.Zones[i]
		var lines []string
		for k := range z.Records {
			lines = append(lines, z.Records[k].lines()...)
		}
		own, name := "", z.Name
		if name == "" {
			own = "in no zone"
		}
		g.list(own, name, lines, z.More, false)
	}
	if n := p.ZoneCount - len(p.Zones); n > 0 && len(p.Zones) > tableRows { // otherwise it is said below the table
		g.say(f.line(fmt.Sprintf("and %s more with records that change", count(n, "zone", "zones")), ""))
	}
	if g.left > 0 {
		g.put(f.line(fmt.Sprintf("and %s for which there is no room here", count(g.left, "line", "lines")), ""))
	}
	_, err := io.WriteString(w, g.b.String())
	return err
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// summary is the whole plan in a line.
func (p *Plan) summary() string {
	parts := []string{
		fmt.Sprintf("%s in %s", count(p.Total.Sum(), "record set changes", "record sets change"), count(p.ZoneCount, "zone", "zones")),
		fmt.Sprintf("%s, %d go", count(p.Come, "claim comes", "claims come"), p.Go),
	}
	if n := len(p.Losing) + p.MoreLosing; n > 0 {
		parts[1] += fmt.Sprintf(", %d do not hold as they are", n)
	}
	if n := len(p.Configurations) + p.MoreConfigurations; n > 0 {
		parts = append(parts, count(n, "configuration changes", "configurations change"))
	}
	if b, e := len(p.Begin)+p.MoreBegin, len(p.End)+p.MoreEnd; b+e > 0 {
		parts = append(parts, fmt.Sprintf("%s, %d end", count(b, "conflict begins", "conflicts begin"), e))
	}
	return strings.Join(parts, "; ")
}

// mark is how a line of the kind begins.
func mark(k Kind) string {
	switch k {
	case Added:
		return "+"
	case Removed:
		return "-"
	}
	return "~"
}

// lines are a record's change, as in a diff.
func (r *Record) lines() (lines []string) {
	at := ""
	if r.Location != "" {
		at = " @" + r.Location
	}
	if r.Kind == TTL && r.Before != nil && r.After != nil {
		data := strings.Join(r.After.Data[:min(len(r.After.Data), 1)], "")
		if n := len(r.After.Data) + r.After.More; n > 1 {
			data += fmt.Sprintf(" and %d more", n-1)
		}
		return []string{fmt.Sprintf("~ %s %s%s %s (TTL %d → %d)", r.Owner, r.Type, at, data, r.Before.TTL, r.After.TTL)}
	}
	for _, side := range []struct {
		mark string
		*Set
	}{{"-", r.Before}, {"+", r.After}} {
		if side.Set == nil {
			continue
		}
		begin := fmt.Sprintf("%s %s %d %s%s ", side.mark, r.Owner, side.TTL, r.Type, at)
		for _, d := range side.Data {
			lines = append(lines, begin+d)
		}
		if side.More > 0 {
			lines = append(lines, begin+andMore(side.More))
		}
	}
	return lines
}

// losing has a line for each claim that does not hold.
func (p *Plan) losing() (lines []string) {
	place := func(source, place string) string {
		if place == "" {
			return source
		}
		return source + " (" + place + ")"
	}
	for _, c := range p.Losing {
		key := c.Owner + " " + c.Type
		if c.Location != "" {
			key += " @" + c.Location
		}
		s := fmt.Sprintf("%s of %s %s", key, place(c.Source, c.Place), c.Fate)
		if c.Against != "" {
			word := " against "
			if c.Fate != "loses" {
				word = " with "
			}
			if c.Fate == "yields" {
				word = " to "
			}
			s += word + place(c.Against, c.At)
		}
		s += ": " + c.Rule
		if c.Hint != "" {
			s += "; hint: " + c.Hint
		}
		lines = append(lines, s)
	}
	return lines
}

func (p *Plan) trafficText(g *page) {
	t := p.Traffic
	if t == nil {
		return
	}
	if t.Unknown != "" {
		g.say(g.line("live traffic: unknown: ", t.Unknown))
		return
	}
	own := fmt.Sprintf("live traffic: %s asks names that change, %s would be answered otherwise (%s to %s; from %s of %s)",
		percent(t.Touched), percent(t.Share), percent(t.Low), percent(t.High), count(int(t.Drawn), "question", "questions"), count(t.Hosts, "host", "hosts"))
	var kinds []string
	for _, k := range t.Kinds {
		kinds = append(kinds, k.Kind+" "+percent(k.Share))
	}
	if len(kinds) > 0 {
		own += ": "
	}
	g.say(g.line(own, strings.Join(kinds, ", ")))
	var lines []string
	for _, x := range t.Examples {
		lines = append(lines, fmt.Sprintf("%s %s (%s): %s → %s", x.Name, x.Type, percent(x.Share), x.Before, x.After))
	}
	g.list("answered otherwise", "", lines, t.More, true)
}

func percent(f float64) string { return fmt.Sprintf("%.2g %%", 100*f) }

// plain makes text printable, in one line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// Clip makes text of any origin fit a plan.
func Clip(s string) string {
	if len(s) <= MaxText {
		return s
	}
	n := MaxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// text writes for a terminal.
type text struct{}

func (text) head(own string) string                          { return own + "\n" }
func (text) line(own, foreign string) string                 { return own + plain(foreign) + "\n" }
func (text) begin(own, foreign string, _ int, _ bool) string { return own + plain(foreign) + "\n" }
func (text) end() string                                     { return "" }
func (text) item(foreign string) string                      { return "  " + plain(foreign) + "\n" }

func (text) table(zones []Zone) string {
	wide := len("ZONE")
	for i := range zones {
		wide = max(wide, utf8.RuneCountInString(zoneName(&zones[i])))
	}
	var b strings.Builder
	row := func(name string, cells ...any) {
		b.WriteString("  " + name + strings.Repeat(" ", wide-utf8.RuneCountInString(name)))
		fmt.Fprintf(&b, "  %7v  %7v  %7v  %7v\n", cells...)
	}
	row("ZONE", "ADDED", "CHANGED", "REMOVED", "TTL")
	for i := range zones {
		z := &zones[i]
		row(zoneName(z), z.Added, z.Changed, z.Removed, z.TTL)
	}
	return b.String()
}

func zoneName(z *Zone) string {
	if z.Name == "" {
		return "(no zone)"
	}
	return plain(z.Name)
}

// markdown writes for a comment of a forge. Foreign text is code, so that a forge makes no
// link or mention of it, and in it all that could mean anything is a reference of HTML, or
// stands in indented code.
type markdown struct{}

// fold is from how many items on they are folded away.
const fold = 10

// code is foreign text within a line.
func code(s string) string {
	if s == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("<code>")
	for _, r := range plain(s) {
		if r < 0x80 && !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != ' ' {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	b.WriteString("</code>")
	return b.String()
}

func (markdown) head(own string) string          { return "**" + own + "**\n\n" }
func (markdown) line(own, foreign string) string { return own + code(foreign) + "\n\n" }

func (markdown) begin(own, foreign string, items int, important bool) string {
	open := ""
	if important || items <= fold {
		open = " open"
	}
	return "<details" + open + "><summary>" + own + code(foreign) + "</summary>\n\n"
}

func (markdown) end() string { return "\n</details>\n\n" }

// item is a line of indented code, which nothing in it can leave.
func (markdown) item(foreign string) string { return "    " + plain(foreign) + "\n" }

func (markdown) table(zones []Zone) string {
	var b strings.Builder
	b.WriteString("| zone | added | changed | removed | TTL |\n|---|--:|--:|--:|--:|\n")
	for i := range zones {
		z := &zones[i]
		name := "(no zone)"
		if z.Name != "" {
			name = code(z.Name)
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", name, z.Added, z.Changed, z.Removed, z.TTL)
	}
	return b.String() + "\n"
}
