package canary

import (
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
)

// answering is a host that answers a trial.
func answering(before, after tree.Tally) seen {
	return seen{dataset: "internal", on: []tree.Host{{Name: "dns1", Datasets: map[string]tree.HostDataset{"internal": {Trial: &tree.TrialState{ID: "1", Before: before, After: after}}}}}}
}

func TestWeigh(t *testing.T) {
	quiet := tree.Tally{Milliseconds: 300_000, Answers: 10_000, Servfail: 1, NXDomain: 1000, CPU: 500_000}
	for name, c := range map[string]struct {
		before, after tree.Tally
		replayed      *replayed
		against, told string
	}{
		"as before":                  {quiet, quiet, nil, "", "SERVFAIL: 0.01 % of 10000 answers, before 0.01 % of 10000"},
		"servfail":                   {quiet, tree.Tally{Answers: 1000, Servfail: 100, NXDomain: 100}, nil, "SERVFAIL: 10 % of 1000 answers, before 0.01 %", ""},
		"servfail without a before":  {tree.Tally{}, tree.Tally{Answers: 1000, Servfail: 100}, nil, "SERVFAIL: 10 %", "too few to compare"},
		"nxdomain":                   {quiet, tree.Tally{Answers: 1000, NXDomain: 300}, nil, "NXDOMAIN: 30 % of 1000 answers, before 10 %", ""},
		"nxdomain within the bound":  {quiet, tree.Tally{Answers: 100_000, NXDomain: 11_000}, nil, "", "NXDOMAIN: 11 %"},
		"nxdomain by chance":         {quiet, tree.Tally{Answers: 120, NXDomain: 20}, nil, "", "NXDOMAIN: 16.67 %"},
		"few answers":                {quiet, tree.Tally{Answers: 99, Servfail: 99}, nil, "", "99 answers so far"},
		"load":                       {tree.Tally{Milliseconds: 1000, Answers: 1000, CPU: 10_000}, tree.Tally{Milliseconds: 1000, Answers: 1000, CPU: 50_000}, nil, "processor time: 50.0 µs an answer, before 10.0 µs", ""},
		"load of who is hardly busy": {quiet, tree.Tally{Milliseconds: 300_000, Answers: 10_000, NXDomain: 1000, CPU: 50_000_000}, nil, "", ""},
		"replayed": {
			quiet, quiet, &replayed{drawn: 500, hosts: 2, lost: 0.25, share: 0.3, zones: map[string]*zoneShare{"example.net.": {0.25, map[string]float64{"nxdomain": 0.25}}}},
			"25 % of 500 sampled queries would lose their answer", "in zone example.net., of all queries: NXDOMAIN 25 %",
		},
		"replayed failure": {quiet, quiet, &replayed{drawn: 500, hosts: 2, lost: 0.005, failing: 0.005}, "0.5 % of 500 sampled queries would get SERVFAIL", ""},
		"replayed well":    {quiet, quiet, &replayed{drawn: 500, hosts: 1, share: 0.01, lost: 0.01}, "", "replayed: 1 % of 500 sampled queries of 1 host"},
		"nothing replayed": {quiet, quiet, &replayed{none: noSamples}, "", noSamples},
	} {
		f := weigh(trial.DefaultPolicy(), answering(c.before, c.after), c.replayed)
		against, told := strings.Join(f.against, "\n"), strings.Join(f.told, "\n")
		if (against == "") != (c.against == "") || !strings.Contains(against, c.against) || !strings.Contains(told, c.told) {
			t.Errorf("%s: against it %q, told %q; want %q, %q", name, against, told, c.against, c.told)
		}
	}
}
