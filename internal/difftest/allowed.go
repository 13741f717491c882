package difftest

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Allowed is a list of differences that are meant. Its file has one rule a line: a
// regular expression that matches Difference.String, then " # " and the reason.
// Empty lines and those that start with # are skipped.
type Allowed struct {
	rules []rule
}

type rule struct {
	text string
	re   *regexp.Regexp
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
			return nil, fmt.Errorf("%s:%d: rule without a reason, expected REGEXP # REASON", name, line)
		}
		re, err := regexp.Compile(strings.TrimSpace(pattern))
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

// allows is for one goroutine at a time.
func (a *Allowed) allows(difference string) bool {
	if a == nil {
		return false
	}
	for i := range a.rules {
		if a.rules[i].re.MatchString(difference) {
			a.rules[i].used++
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
