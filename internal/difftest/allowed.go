package difftest

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Allowed is a list of differences that are meant. Its file has one rule a line: a
// regular expression that matches Difference.String, or "@" and the name of a rule
// that Options.Explain decides from data; then " # " and the reason. Empty lines and
// those that start with # are skipped.
type Allowed struct {
	rules []rule
}

type rule struct {
	text string
	re   *regexp.Regexp // nil: by name
	name string
	used int
}

// ReadAllowed reads the file; name is for errors.
func ReadAllowed(r io.Reader, name string) (*Allowed, error) {
	a := &Allowed{}
	s := bufio.NewScanner(r)
	for line := 1; s.Scan(); line++ {
		text := strings.TrimSpace(s.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		pattern, reason, ok := strings.Cut(text, " # ")
		if !ok || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: rule without a reason, expected REGEXP # REASON or @NAME # REASON", name, line)
		}
		pattern = strings.TrimSpace(pattern)
		if name, ok := strings.CutPrefix(pattern, "@"); ok {
			a.rules = append(a.rules, rule{text: text, name: name})
			continue
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, line, err)
		}
		a.rules = append(a.rules, rule{text: text, re: re})
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return a, nil
}

// allows is for one goroutine at a time. explained has the names of the rules that
// explain the difference from data; "" is none.
func (a *Allowed) allows(difference string, explained ...string) bool {
	if a == nil {
		return false
	}
	for i := range a.rules {
		r := &a.rules[i]
		if r.re != nil && r.re.MatchString(difference) || r.re == nil && slices.Contains(explained, r.name) {
			r.used++
			return true
		}
	}
	return false
}

func (a *Allowed) use() (used map[string]int, unused []string) {
	used = map[string]int{}
	if a == nil {
		return used, nil
	}
	for _, r := range a.rules {
		if r.used > 0 {
			used[r.text] = r.used
		} else {
			unused = append(unused, r.text)
		}
	}
	return used, unused
}

// Unused gives the rules that have allowed nothing so far.
func (a *Allowed) Unused() []string {
	_, unused := a.use()
	return unused
}
