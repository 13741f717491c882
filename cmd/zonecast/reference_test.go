package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/announcer"
	"github.com/zonecast/zonecast/announcer/route"
	"github.com/zonecast/zonecast/host"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/service"
)

var rewrite = flag.Bool("update", false, "write examples/zonecast.toml and docs/metrics.md anew")

// same fails when a file is not what the program gives.
func same(t *testing.T, file, want string) {
	t.Helper()
	file = filepath.Join("..", "..", file)
	if *rewrite {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s is not what the code gives; go test ./cmd/zonecast -update (-file +code):\n%s", file, diff)
	}
}

// The example of a configuration file has every option and its true default.
func TestExampleFile(t *testing.T) {
	var out, errs bytes.Buffer
	root := newRoot(strings.NewReader(""), &out, &errs)
	root.SetArgs([]string{"run", "example"})
	if err := root.ExecuteContext(t.Context()); err != nil || errs.Len() > 0 {
		t.Fatalf("%v\n%s", err, &errs)
	}
	same(t, "examples/zonecast.toml", out.String())
}

const metricsPage = `# Metrics of the stages

Each process gives them at ` + "`/metrics`" + ` of its --http address. All have the label ` + "`service`" + `; those that every service has are in
[service.md](service.md). A name says its unit: ` + "`_seconds`" + ` (histograms, but for ages and times), ` + "`_bytes`" + `; ` + "`_total`" + ` is a counter and starts at 0 with the
process; the others are numbers of things, or versions. Of a host's stages, those of ` + "`zonecast up`" + ` have the label ` + "`host`" + `.

This page is written by a test (` + "`go test ./cmd/zonecast -run TestMetricsPage -update`" + `).

| metric | labels | what it says |
|---|---|---|
`

// docs/metrics.md has every metric of every stage, and no others.
func TestMetricsPage(t *testing.T) {
	reg := prometheus.NewRegistry()
	svc, err := service.New(service.Config{Name: "all", Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{store: memstore.New(), svc: svc, log: slog.New(slog.DiscardHandler), mux: http.NewServeMux()}
	defer n.store.Close()
	n.warn("kit", func() []string { return nil })
	kit := described(t, reg)

	dir := t.TempDir()
	apis, mut, upd, pre, can, pub, agt, aut, mon, prx := newAPIStage(), mutatorStage{}, updateStage{}, presenterStage{policy: &policyOptions{}}, canaryStage{}, publisherStage{}, agentStage{}, authorityStage{}, monitorStage{}, proxyStage{}
	rec, tin, ann, bea := recursorStage{}, tinydnsStage{}, announcerStage{}, beaconStage{}
	mpr := mapperStage{}
	for _, s := range []interface{ declare(*cobra.Command) }{apis, &mut, &upd, &pre, &can, &pub, &agt, &aut, &mon, &prx, &rec, &tin, &ann, &bea, &mpr} {
		s.declare(&cobra.Command{Use: "stage"}) // which sets the defaults
	}
	apis.Listen = "127.0.0.1:0"
	pub.Dir, pub.KeyFile, pub.URLs = filepath.Join(dir, "snapshots"), filepath.Join(dir, "key"), []string{"http://127.0.0.1/snapshots/"}
	agt.Host, agt.Journal, agt.StatusDir, agt.Keys, agt.DNS = "host1", filepath.Join(dir, "journal"), dir, []string{filepath.Join(dir, "key.pub")}, "127.0.0.1:53"
	prx.Dir, prx.Socket = filepath.Join(dir, "proxy"), filepath.Join(dir, "config.sock")
	prx.site.Listen, prx.site.Dir = "127.0.0.1:0", filepath.Join(dir, "site")
	agt.swarm.Listen = "127.0.0.1:0"
	aut.Listen, aut.Journal, aut.Keys, aut.StatusDir = []string{"127.0.0.1:0"}, agt.Journal, agt.Keys, dir
	rec.Journal, rec.StatusDir, rec.Keys, rec.Dir, rec.Authority = agt.Journal, dir, agt.Keys, filepath.Join(dir, "recursor"), "127.0.0.1:5300"
	tin.Journal, tin.StatusDir, tin.Keys, tin.Dir = agt.Journal, dir, agt.Keys, filepath.Join(dir, "tinydns")
	ann.Host, ann.Loopback, ann.Speaker = "host1", "", announcer.SpeakerExaBGP
	ann.VIPs, ann.BGP.AS = []route.VIP{{Name: "dns", Address: netip.MustParseAddr("192.0.2.53"), Prefix: netip.MustParsePrefix("192.0.2.53/32")}}, 65101
	bea.Listen, bea.Zone, bea.PoPs, bea.Out = "127.0.0.1:0", "beacon.example.net", []string{"esams"}, filepath.Join(dir, "rtt")
	for _, add := range []func(*node) error{
		apis.add, mut.add, upd.add, pre.add, can.add, pub.add, agt.add, func(n *node) error { return aut.add(n, "") }, mon.add, prx.add, rec.add, tin.add, ann.add, bea.add, mpr.add,
	} {
		if err := add(n); err != nil {
			t.Fatal(err)
		}
	}
	defer apis.ln.Close()
	hst := &hostParts{cfg: host.DefaultConfig()}
	hst.cfg.Dir = dir
	if err := hst.add(n, io.Discard); err != nil {
		t.Fatal(err)
	}

	b := bytes.NewBufferString(metricsPage)
	all := described(t, reg)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for k := range all {
			if _, ofKit := kit[k]; !ofKit && !yield(k) {
				return
			}
		}
	}) {
		m := all[name]
		if m.help == "" || !strings.HasPrefix(name, "zonecast_") {
			t.Errorf("metric %s has the help %q", name, m.help)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, m.labels, m.help)
	}
	same(t, "docs/metrics.md", b.String())
}

type metric struct{ labels, help string }

var descForm = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "([^"]*)", unit: "[^"]*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// described gives what a registry has, by name; vectors without a value, too.
func described(t *testing.T, reg *prometheus.Registry) map[string]metric {
	t.Helper()
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		reg.Describe(ch)
	}()
	found := map[string]metric{}
	for d := range ch {
		m := descForm.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("metric is not described as expected: %s", d)
		}
		var labels []string
		for _, l := range strings.Split(m[3]+","+m[4], ",") {
			if name, _, _ := strings.Cut(l, "="); name != "" && name != "service" && name != "host" {
				labels = append(labels, "`"+name+"`")
			}
		}
		slices.Sort(labels)
		found[m[1]] = metric{labels: strings.Join(slices.Compact(labels), ", "), help: m[2]}
	}
	return found
}
