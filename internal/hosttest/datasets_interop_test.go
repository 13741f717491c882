//go:build interop

package hosttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// besides opens the journal of another dataset of the same host.
func (h *dnsHost) besides(dataset string) *dnsHost {
	h.t.Helper()
	o := *h
	dir := datasets.Journal(h.config.Journal, "internal", dataset)
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err == nil {
		o.writer, o.dataset, err = journal.OpenWriter(dir, journal.Options{Dataset: dataset})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { o.writer.Close() })
	return &o
}

func (h *dnsHost) carries(all ...string) {
	h.t.Helper()
	if err := datasets.WriteCarried(h.config.Journal, all); err != nil {
		h.t.Fatal(err)
	}
}

// conf is what Unbound runs on.
func (h *dnsHost) conf() string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.config.Dir, "unbound.conf"))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

const edgeText = `
	edge.example. 86400 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400
	edge.example. 86400 IN NS ns.example.net.
	www.edge.example. 86400 IN A 192.0.2.10
`

// TestInteropDatasets: a real Unbound asks the authority for the zones of every dataset that the host
// carries. One that is taken up, changed and dropped while it runs is seen so, whatever was in the
// cache, and so is one that was dropped while nobody looked.
func TestInteropDatasets(t *testing.T) {
	h := newDNSHost(t)
	h.publish(zoneText)
	edge := h.besides("edge")
	edge.publish(edgeText)
	h.config.Anchor = "off" // what the Internet says here is not signed
	r, stop := h.recurse()
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")
	h.see("www.edge.example", "A", "NXDOMAIN") // of the Internet

	h.carries("internal", "edge")
	h.see("www.edge.example", "A", "NOERROR 192.0.2.10")
	h.see("new.edge.example", "A", "NXDOMAIN")
	edge.publish("www.edge.example. 86400 IN A 192.0.2.11\nnew.edge.example. 86400 IN A 192.0.2.12")
	h.see("www.edge.example", "A", "NOERROR 192.0.2.11")
	h.see("new.edge.example", "A", "NOERROR 192.0.2.12")
	h.publish("www.example.net. 86400 IN A 192.0.2.2")
	h.see("www.example.net", "A", "NOERROR 192.0.2.2")
	edge.publish(`second.example. 86400 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400
		www.second.example. 86400 IN A 192.0.2.13`)
	h.see("www.second.example", "A", "NOERROR 192.0.2.13")
	s := r.Status().Carried
	if len(s) != 2 || s[0].Dataset != "internal" || s[0].Zones != 1 || s[1].Dataset != "edge" || s[1].Zones != 2 || s[1].Version != edge.dataset.Version() {
		t.Errorf("status is %+v", s)
	}
	if n := h.counter("zonecast_recursor_flushes_total", "dataset", "edge"); n < 0 {
		t.Error("nothing is counted of edge")
	}

	h.carries("edge")
	h.see("www.example.net", "A", "NXDOMAIN")
	if strings.Contains(h.conf(), "example.net.\"") {
		t.Errorf("zones of a dataset that was dropped are asked for:\n%s", h.conf())
	}
	if n := h.counter("zonecast_recursor_flushes_total", "dataset", "internal"); n >= 0 {
		t.Error("flushes of a dataset that was dropped are counted")
	}
	h.see("www.edge.example", "A", "NOERROR 192.0.2.11")
	if all := r.Troubles(); len(all) > 0 {
		t.Errorf("troubles: %q", all)
	}

	stop()
	h.carries("internal")
	_, stop = h.recurse()
	h.see("www.example.net", "A", "NOERROR 192.0.2.2")
	h.see("www.edge.example", "A", "NXDOMAIN")
	stop()
	h.carries("internal", "edge")
	r, _ = h.recurse()
	h.see("www.edge.example", "A", "NOERROR 192.0.2.11") // without a word of the authority
	if strings.Contains(strings.Join(r.Troubles(), " "), "journal") {
		t.Errorf("troubles: %q", r.Troubles())
	}
}
