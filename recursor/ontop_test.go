package recursor

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/tree"
)

// An override that the authority answers on top of the dataset is flushed when it comes
// and when it goes, and not in between; one that it refuses changes nothing.
func TestOnTop(t *testing.T) {
	r := &carried{Recursor: &Recursor{log: slog.New(slog.DiscardHandler)}, index: newTestIndex(t, "example.net SOA", "*.w.example.net A", "www.example.net A")}
	over := func(owner, refused string) tree.HostDataset {
		return tree.HostDataset{Version: 1, Direct: []tree.DirectState{{ID: "1", Owner: owner, Type: "A", Until: 9, Refused: refused}}}
	}
	for i, step := range []struct {
		says tree.HostDataset
		want []string
	}{
		{tree.HostDataset{Version: 1}, nil},
		{over("www.example.net.", "outside"), nil},
		{over("www.example.net.", ""), []string{"flush www.example.net.", "flush_type example.net. SOA"}},
		{over("www.example.net.", ""), nil},
		{over("x.w.example.net.", ""), []string{"flush_zone x.w.example.net.", "flush www.example.net.", "flush_type example.net. SOA"}},
		{tree.HostDataset{Version: 2}, []string{"flush_zone x.w.example.net.", "flush_type example.net. SOA"}},
	} {
		var got []string
		if p := r.lookOnTop(step.says); p != nil {
			got = p.commands(r.index.ZoneOf)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}
