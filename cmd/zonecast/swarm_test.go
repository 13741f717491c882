package main

import (
	"strings"
	"testing"

	"github.com/zonecast/zonecast/swarm"
)

func TestWriteSwarm(t *testing.T) {
	id := strings.Repeat("60303ae2", 8)
	var out strings.Builder
	err := writeSwarm(&out, swarm.View{Dataset: "internal", Snapshot: id, Version: 40, Size: 1000, Torrent: strings.Repeat("ab", 20), Peers: []swarm.Peer{
		{Name: "p-1", Site: "default", Address: "192.0.2.21:7382", Publisher: true, Have: 1000},
		{Name: "host0", Site: "ams", Address: "192.0.2.53:7382", Have: 250},
		{Name: "host1\x1b[2J", Site: "ams", Address: "192.0.2.54:7382"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := `dataset internal  snapshot 60303ae26030 of version 40, 1000 octets, torrent abababababababababababababababababababab
  NAME          SITE     ADDRESS          HAS                          
  p-1           default  192.0.2.21:7382  all                          publisher
  host0         ams      192.0.2.53:7382  [#####...............] 25 %  
  host1\x1b[2J  ams      192.0.2.54:7382  -                            
3 peers, 1 with all of it, 1 with some
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, test := range []struct{ view, want string }{{"", "no snapshot is offered"}, {id, "from URLs alone"}} {
		out.Reset()
		if err := writeSwarm(&out, swarm.View{Dataset: "internal", Snapshot: test.view, Size: 1}); err != nil || !strings.Contains(out.String(), test.want) {
			t.Errorf("got %q, %v, want %q in it", out.String(), err, test.want)
		}
	}
}
