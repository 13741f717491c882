package compliance

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Check asks the server all cases and gives what is wrong, a line a case. allowed
// has the cases that may fail, by name, each with the reason; one that passes all the
// same is wrong, too: the list must not outlive its reasons.
func Check(ctx context.Context, server netip.AddrPort, f Features, allowed map[string]string) ([]string, error) {
	var problems []string
	seen := map[string]bool{}
	for _, c := range Cases(f) {
		seen[c.Name] = true
		wrong, err := c.Ask(ctx, server)
		if err != nil {
			return problems, err
		}
		_, may := allowed[c.Name]
		switch {
		case len(wrong) > 0 && !may:
			problems = append(problems, fmt.Sprintf("%s: %s (%s; query %x)", c.Name, strings.Join(wrong, "; "), c.Reason, c.Query))
		case len(wrong) == 0 && may:
			problems = append(problems, fmt.Sprintf("%s: passes, and is in the list of what may fail", c.Name))
		}
	}
	for name := range allowed {
		if !seen[name] {
			problems = append(problems, fmt.Sprintf("%s: in the list of what may fail, and no case", name))
		}
	}
	slices.Sort(problems)
	return problems, nil
}
