package main

import (
	"strings"
	"testing"
)

// What hosts say of themselves is foreign text, and a process that is starting does
// not know how many RRsets there are.
func TestStatusTrustsNobody(t *testing.T) {
	var out strings.Builder
	s := &session{clientOptions: &clientOptions{}}
	s.writeStatus(&out, statusView{Datasets: []datasetView{{
		Name: "internal", Version: 7, Digest: "aa", Records: -1,
		Hosts: []hostView{{Name: "host0\x1b[2J", DNS: "192.0.2.1:53\nfake", Version: 7, Digest: "bb\x07", Age: -1}},
	}}})
	if got := out.String(); !strings.Contains(got, "RRsets not read yet") || strings.ContainsAny(got, "\x1b\x07") || strings.Contains(got, "\nfake") {
		t.Errorf("status prints %q", got)
	}
}
