package review

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zonecast/zonecast/record"
)

// OwnersFile is where the policy is in the repository.
const OwnersFile = "OWNERS"

// Bounds of a policy. A thousand rules of a thousand people are more than anybody reads.
const (
	maxOwnersFile = 1 << 20 // octets
	maxRules      = 10_000
	maxWho        = 1_000 // operators of a rule or a group
	maxExpanded   = 1_000_000
	maxName       = 100 // octets of an operator's name
)

const (
	// defaultExpire is how long an approval counts: two weeks are longer than a holiday,
	// and short enough that its approver still knows why.
	defaultExpire = 14 * 24 * time.Hour
	// defaultAbandon is how long nothing may happen to a proposal before it expires.
	defaultAbandon = 90 * 24 * time.Hour
)

// everybody stands for all operators.
const everybody = "*"

// Policy says who must approve what.
type Policy struct {
	rules     []rule
	robots    []rule // Need is not used
	approvals int
	expire    time.Duration
	abandon   time.Duration
}

// rule is a line of OWNERS that says something about a path or a zone.
type rule struct {
	line    int // 0: what holds without a line
	pattern string
	parts   []string    // of the pattern of a path
	zone    record.Name // "": of a path
	owners  []string    // sorted; everybody alone for everybody
	need    int         // approvals
}

func (r *rule) String() string {
	if r.zone != "" {
		return "zone " + r.pattern
	}
	return "path " + r.pattern
}

// ParsePolicy reads the lines of an OWNERS file; docs/review.md has its language.
func ParsePolicy(b []byte) (*Policy, error) {
	p := &Policy{approvals: 1, expire: defaultExpire, abandon: defaultAbandon}
	if len(b) > maxOwnersFile {
		return nil, fmt.Errorf("%s: has %d octets, expected at most %d", OwnersFile, len(b), maxOwnersFile)
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%s: is not UTF-8", OwnersFile)
	}
	r := policyReader{policy: p, groups: map[string][]string{}, unset: map[int]bool{}, seen: map[string]int{}}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		text, _, _ := strings.Cut(line, "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if err := r.statement(n, words); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", OwnersFile, n, err)
		}
	}
	for i := range p.rules {
		u := &p.rules[i]
		if r.unset[u.line] {
			u.need = p.approvals
		}
		if u.owners[0] != everybody && len(u.owners) < u.need {
			return nil, fmt.Errorf("%s:%d: %s needs %d approvals and has %d owners: nothing could ever land", OwnersFile, u.line, u, u.need, len(u.owners))
		}
	}
	return p, nil
}

// policyReader is the reading of one file.
type policyReader struct {
	policy   *Policy
	groups   map[string][]string
	unset    map[int]bool   // lines of rules that take the default number of approvals
	seen     map[string]int // lines by what may be said once
	expanded int            // operators in all rules and groups together
}

func (r *policyReader) once(n int, what string) error {
	if before := r.seen[what]; before != 0 {
		return fmt.Errorf("%s was said in line %d already", what, before)
	}
	r.seen[what] = n
	return nil
}

func (r *policyReader) statement(n int, words []string) error {
	p := r.policy
	switch key := words[0]; key {
	case "approvals", "expire", "abandon":
		if len(words) != 2 {
			return fmt.Errorf("%s: expected one value", key)
		}
		if err := r.once(n, key); err != nil {
			return err
		}
		var err error
		switch key {
		case "approvals":
			p.approvals, err = parseApprovals(words[1])
		case "expire":
			p.expire, err = parseTime(words[1])
		default:
			p.abandon, err = parseTime(words[1])
		}
		return err
	case "group":
		if len(words) < 3 {
			return errors.New("group: expected a name and operators")
		}
		if err := CheckName(words[1]); err != nil {
			return fmt.Errorf("group: %w", err)
		}
		if err := r.once(n, "group "+words[1]); err != nil {
			return err
		}
		who, err := r.operators(words[2:])
		r.groups[words[1]] = who
		return err
	case "path", "zone":
		u, err := r.rule(n, words)
		if err != nil {
			return err
		}
		if len(p.rules) == maxRules {
			return fmt.Errorf("more than %d rules", maxRules)
		}
		if err := r.once(n, u.String()); err != nil {
			return err
		}
		p.rules = append(p.rules, u)
		return nil
	case "robots":
		u, err := r.rule(n, words[1:])
		if err != nil {
			return fmt.Errorf("robots: %w", err)
		}
		switch {
		case !r.unset[n]:
			return errors.New("robots: approvals= has no meaning here")
		case u.owners[0] == everybody:
			return errors.New("robots: expected names, not *")
		case len(p.robots) == maxRules:
			return fmt.Errorf("more than %d lines of robots", maxRules)
		}
		p.robots = append(p.robots, u)
		return nil
	default:
		return fmt.Errorf("%.40q: expected approvals, expire, abandon, group, path, zone or robots", key)
	}
}

// rule reads path PATTERN WHO… or zone NAME WHO…, and approvals=N.
func (r *policyReader) rule(n int, words []string) (rule, error) {
	u := rule{line: n}
	if len(words) < 3 || words[0] != "path" && words[0] != "zone" {
		return u, errors.New("expected path PATTERN or zone NAME, and who owns it")
	}
	key, what, who := words[0], words[1], words[2:]
	u.pattern = what
	if key == "zone" {
		z, err := record.ParseName(what)
		if err != nil {
			return u, fmt.Errorf("zone %.300q: %w", what, err)
		}
		u.zone, u.pattern = z, z.String()
	} else {
		if err := checkPattern(what); err != nil {
			return u, err
		}
		u.parts = patternParts(what)
	}
	r.unset[n] = true
	rest := who[:0:0]
	for _, w := range who {
		v, ok := strings.CutPrefix(w, "approvals=")
		if !ok {
			rest = append(rest, w)
			continue
		}
		if !r.unset[n] {
			return u, errors.New("approvals= twice")
		}
		delete(r.unset, n)
		var err error
		if u.need, err = parseApprovals(v); err != nil {
			return u, err
		}
	}
	var err error
	u.owners, err = r.operators(rest)
	return u, err
}

// operators expands names, @groups and *.
func (r *policyReader) operators(words []string) ([]string, error) {
	var who []string
	for _, w := range words {
		group, ok := strings.CutPrefix(w, "@")
		switch {
		case w == everybody:
			return []string{everybody}, nil
		case ok:
			members, known := r.groups[group]
			if !known {
				return nil, fmt.Errorf("group @%.100s: is not there, or further down", group)
			}
			if members[0] == everybody {
				return members, nil
			}
			who = append(who, members...)
		default:
			if err := CheckName(w); err != nil {
				return nil, err
			}
			who = append(who, w)
		}
	}
	if len(who) == 0 {
		return nil, errors.New("expected at least one operator, @group or *")
	}
	slices.Sort(who)
	who = slices.Compact(who)
	if len(who) > maxWho {
		return nil, fmt.Errorf("%d operators, expected at most %d", len(who), maxWho)
	}
	if r.expanded += len(who); r.expanded > maxExpanded {
		return nil, fmt.Errorf("more than %d operators in all lines together", maxExpanded)
	}
	return who, nil
}

// CheckName says what is wrong with the name of an operator.
func CheckName(s string) error {
	bad := func(c rune) bool {
		return c <= ' ' || c == 0x7f || c == utf8.RuneError || strings.ContainsRune(`#=*"\<>,`, c) || !strconv.IsPrint(c)
	}
	if s == "" || len(s) > maxName || !utf8.ValidString(s) || strings.HasPrefix(s, "@") || strings.ContainsFunc(s, bad) {
		return fmt.Errorf("operator %.120q: expected a name such as alice or alice@example.net", s)
	}
	return nil
}

func parseApprovals(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 20 {
		return 0, fmt.Errorf("approvals %.40q: expected a number from 0 to 20", s)
	}
	return n, nil
}

// parseTime reads a number of hours, days or weeks: 12h, 14d, 2w.
func parseTime(s string) (time.Duration, error) {
	units := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	bad := fmt.Errorf("time %.40q: expected 1h to 1000w, such as 12h, 14d or 2w", s)
	if s == "" || units[s[len(s)-1]] == 0 {
		return 0, bad
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	d := time.Duration(n) * units[s[len(s)-1]]
	if err != nil || n == 0 || n > 1_000_000 || d > 1000*units['w'] {
		return 0, bad
	}
	return d, nil
}

// maxPattern bounds a pattern, in octets; its parts are no more than its slashes.
const maxPattern = 1024

func checkPattern(s string) error {
	if !strings.HasPrefix(s, "/") || len(s) > maxPattern || strings.ContainsAny(s, `[]\`) || strings.Contains(s, "//") {
		return fmt.Errorf("pattern %.200q: expected a path from the root such as /zones/** or /OWNERS, with * (any name), ? (any character) and ** (any folders)", s)
	}
	for part := range strings.SplitSeq(s, "/") {
		if part != "**" && strings.Contains(part, "**") {
			return fmt.Errorf("pattern %.200q: ** stands alone between slashes", s)
		}
	}
	return nil
}

// patternParts splits a checked pattern. One that ends in a slash matches everything
// below.
func patternParts(pattern string) []string {
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	return strings.Split(pattern[1:], "/")
}

// matches reports whether the parts of a pattern match those of a path.
func matches(p, n []string) bool {
	// Where the last ** was, and how much of the path it has taken: if what follows does
	// not match, it takes one part more. Earlier ones need not change.
	star, taken := -1, 0
	i, j := 0, 0
	for j < len(n) {
		if i < len(p) && p[i] == "**" {
			if i+1 == len(p) {
				return true
			}
			star, taken = i, j
			i++
			continue
		}
		if i < len(p) {
			if p[i] == n[j] || matchesPart(p[i], n[j]) {
				i++
				j++
				continue
			}
		}
		if star < 0 {
			return false
		}
		taken++
		i, j = star+1, taken
	}
	for i < len(p) && p[i] == "**" {
		i++
	}
	return i == len(p)
}

func matchesPart(pattern, name string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return false
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// Requirement is what a proposal needs because of one rule.
type Requirement struct {
	Rule   string   `json:"rule"` // as in OWNERS; "" where no line says anything
	Line   int      `json:"line,omitempty"`
	Owners []string `json:"owners"` // "*": every operator
	Need   int      `json:"need"`   // approvals
	// By are the owners whose approval counts.
	By []string `json:"by,omitempty"`
	// For are the first of the paths and zones because of which it is needed; More is
	// the number of others.
	For  []string `json:"for"`
	More int      `json:"more,omitempty"`
}

// Met reports whether nothing is missing.
func (q *Requirement) Met() bool { return len(q.By) >= q.Need }

func (q *Requirement) owns(who string) bool {
	if q.Owners[0] == everybody {
		return true
	}
	_, ok := slices.BinarySearch(q.Owners, who)
	return ok
}

func (q *Requirement) String() string {
	rule := "no rule"
	if q.Rule != "" {
		rule = fmt.Sprintf("%s:%d %s", OwnersFile, q.Line, q.Rule)
	}
	owners := strings.Join(q.Owners[:min(len(q.Owners), maxShown)], ", ")
	switch {
	case q.Owners[0] == everybody:
		owners = "anybody"
	case len(q.Owners) > maxShown:
		owners += fmt.Sprintf(" and %d more", len(q.Owners)-maxShown)
	}
	return fmt.Sprintf("%d of %d approvals of %s for %s (%s)", len(q.By), q.Need, owners, q.For[0], rule)
}

// maxShown is how many of many are named.
const maxShown = 10

// requirements says what a proposal of author needs that changes paths and zones, also of
// rules that need no approval: their owners may reject. No approvals are counted in.
func (p *Policy) requirements(author string, paths []string, zones []record.Name) []*Requirement {
	found := map[int]*Requirement{}
	unreviewed := map[int]string{} // the first that a robot may change, by line
	add := func(u *rule, what string, robot bool) {
		q := found[u.line]
		if q == nil {
			q = &Requirement{Line: u.line, Owners: u.owners}
			if u.line != 0 {
				q.Rule = u.String()
			}
			found[u.line] = q
		}
		if robot {
			unreviewed[u.line] = cmp.Or(unreviewed[u.line], what)
			return
		}
		q.Need = u.need
		if len(q.For) < maxShown {
			q.For = append(q.For, what)
		} else {
			q.More++
		}
	}
	for _, name := range paths {
		parts := strings.Split(name, "/")
		robot := name != OwnersFile && p.robot(author, func(u *rule) bool { return u.zone == "" && matches(u.parts, parts) })
		add(p.pathRule(parts), name, robot)
	}
	for _, z := range zones {
		if u := p.zoneRule(z); u != nil {
			add(u, "zone "+z.String(), p.robot(author, func(u *rule) bool { return u.zone != "" && z.IsSubdomainOf(u.zone) }))
		}
	}
	list := slices.Collect(maps.Values(found))
	for _, q := range list {
		if len(q.For) == 0 {
			q.For = []string{unreviewed[q.Line]}
		}
	}
	slices.SortFunc(list, func(a, b *Requirement) int { return cmp.Compare(a.Line, b.Line) })
	return list
}

// pathRule is the last rule that matches the parts of a path. What no rule is about
// belongs to the owners of OWNERS, and if that has none, to everybody.
func (p *Policy) pathRule(parts []string) *rule {
	for i := range slices.Backward(p.rules) {
		if u := &p.rules[i]; u.zone == "" && matches(u.parts, parts) {
			return u
		}
	}
	if len(parts) != 1 || parts[0] != OwnersFile {
		return p.pathRule([]string{OwnersFile})
	}
	return &rule{owners: []string{everybody}, need: p.approvals}
}

// zoneRule is the rule of the closest zone at or above z; nil if there is none.
func (p *Policy) zoneRule(z record.Name) *rule {
	var best *rule
	for i := range p.rules {
		if u := &p.rules[i]; u.zone != "" && z.IsSubdomainOf(u.zone) && (best == nil || u.zone.Labels() > best.zone.Labels()) {
			best = u
		}
	}
	return best
}

// robot reports whether who may land unreviewed by one of the lines that fit.
func (p *Policy) robot(who string, fits func(*rule) bool) bool {
	for i := range p.robots {
		if u := &p.robots[i]; fits(u) {
			if _, ok := slices.BinarySearch(u.owners, who); ok {
				return true
			}
		}
	}
	return false
}
