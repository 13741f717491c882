package service_test

import (
	"context"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/service"
)

// docs/service.md names the metrics that exist, and no others.
func TestDocumentedMetrics(t *testing.T) {
	b, err := os.ReadFile("../docs/service.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile(`zonecast_[a-z_]+`).FindAllString(string(b), -1) {
		documented[name] = true
	}
	reg := prometheus.NewRegistry()
	s := newService(t, service.Config{Registry: reg})
	nothing := func(context.Context) error { return nil }
	s.Add(
		service.Periodic("p", time.Second, nothing),
		service.NewQueue("q", 1, 1, func(context.Context, int) error { return nil }).Task(),
		service.Watch("w", func(context.Context) (<-chan int, error) { return nil, nil }, func(context.Context, int) error { return nil }),
		service.HTTP("h", nil, http.NotFoundHandler(), nil),
	)
	exist := map[string]bool{"zonecast_http_request_seconds": true} // a vector that is empty before the first request
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "zonecast_") {
			exist[f.GetName()] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(exist)), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Errorf("metrics (-exist +documented):\n%s", diff)
	}
}
