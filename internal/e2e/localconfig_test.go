package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/service/landed"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
)

// lander lands configurations, as the configurator does.
type lander struct {
	t  *testing.T
	st store.Store
	n  int
}

func newLander(t *testing.T, endpoint string) *lander {
	t.Helper()
	st, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return &lander{t: t, st: st}
}

// land lands path, value, path, value.
func (l *lander) land(pairs ...string) uint64 {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	w, err := configtree.Open(ctx, l.st)
	if err != nil {
		l.t.Fatal(err)
	}
	l.n++
	landing := configtree.Landing{Revision: fmt.Sprintf("commit%d", l.n)}
	for i := 0; i < len(pairs); i += 2 {
		landing.Put = append(landing.Put, configtree.Config{Path: pairs[i], Type: "app.T", Revision: landing.Revision, Sources: []string{pairs[i] + ".star"}, Value: []byte(pairs[i+1])})
	}
	h, err := w.Land(ctx, landing)
	if err != nil {
		l.t.Fatal(err)
	}
	return h.Version
}

// startProxy starts `run proxy` and waits until it answers.
func startProxy(t *testing.T, store, dir string, args ...string) (p *Process, socket string) {
	t.Helper()
	socket = filepath.Join(dir, "config.sock")
	p = Start(t, "proxy", append([]string{
		"run", "proxy", "--store", store, "--proxy-dir", filepath.Join(dir, "proxy"), "--proxy-socket", socket, "--proxy-confirm", "200ms", "--log-format", "text",
	}, args...)...)
	until(t, func() string {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return err.Error()
		}
		_ = c.Close() // of a test
		return ""
	})
	return p, socket
}

// configJSON is what `config get --json` prints.
type configJSON struct {
	Path     string          `json:"path"`
	Type     string          `json:"type"`
	Version  uint64          `json:"version"`
	Revision string          `json:"revision"`
	Age      int64           `json:"age_ms"`
	Problem  string          `json:"problem"`
	Value    json.RawMessage `json:"value"`
}

func getConfig(t *testing.T, socket, path string) (c configJSON, trouble string) {
	t.Helper()
	out, said, status := Run(t, "config", "get", path, "--json", "--config-socket", socket)
	if status != 0 {
		return c, said
	}
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return c, ""
}

// TestLocalConfiguration runs a store and a proxy as processes of their own, and programs
// beside them: with the store killed they read on and are told the age, also after the proxy
// was killed and started again; when the store is back, changes flow.
func TestLocalConfiguration(t *testing.T) {
	t.Parallel() // it waits more than it works
	dir := t.TempDir()
	address := fmt.Sprintf("127.0.0.1:%d", FreePorts(t, 1))
	startStore := func() *Process {
		return Start(t, "store", "run", "store", "--etcd-dir", filepath.Join(dir, "store"), "--etcd-listen", address)
	}
	db := startStore()
	proxy, socket := startProxy(t, "etcd://"+address, dir)
	l := newLander(t, address)
	large := fmt.Sprintf(`["%s"]`, strings.Repeat("x", 3_000_000))
	v1 := l.land("app/limits", `{"most":1}`, "app/large", large)
	is := func(what, want string) configJSON {
		t.Helper()
		var c configJSON
		until(t, func() (trouble string) {
			if c, trouble = getConfig(t, socket, "app/limits"); trouble == "" && string(c.Value) != want {
				trouble = fmt.Sprintf("%s: %s, want %s", what, c.Value, want)
			}
			return trouble
		})
		return c
	}
	if c := is("at first", `{"most":1}`); c.Version != v1 || c.Type != "app.T" || c.Revision != "commit1" || c.Path != "app/limits" {
		t.Errorf("got %+v", c)
	}
	until(t, func() string {
		if c, _ := getConfig(t, socket, "app/limits"); c.Age < 0 || c.Age > 2000 {
			return fmt.Sprintf("age is %d ms while the store lives", c.Age)
		}
		return ""
	})
	if c, _ := getConfig(t, socket, "app/large"); string(c.Value) != large {
		t.Errorf("a value of %d octets came with %d", len(large), len(c.Value))
	}
	out, said, status := Run(t, "config", "list", "app/", "--config-socket", socket)
	if status != 0 || !strings.Contains(out, "app/limits") || !strings.Contains(out, "3000004") {
		t.Errorf("list: status %d\n%s%s", status, out, said)
	}
	for _, x := range session(t, filepath.Join(Root(), "docs", "local-configuration.md")) {
		out, said, status := Run(t, append(strings.Fields(x.command)[1:], "--config-socket", socket)...)
		if status != 0 || said != "" {
			t.Errorf("%s: status %d, %s", x.command, status, said)
		}
		var documented, found any
		if err := errors.Join(json.Unmarshal([]byte(x.want), &documented), json.Unmarshal([]byte(out), &found)); err != nil {
			t.Fatalf("%s: %v", x.command, err)
		}
		sets := [2]map[string]bool{{}, {}}
		keys("", documented, sets[0])
		keys("", found, sets[1])
		if diff := cmp.Diff(sets[0], sets[1]); diff != "" {
			t.Errorf("%s: keys, documented (-) and found (+):\n%s", x.command, diff)
		}
	}
	if _, said, status := Run(t, "config", "get", "app/none", "--config-socket", socket); status != 1 || !strings.Contains(said, "there is no configuration app/none") {
		t.Errorf("none: status %d, %s", status, said)
	}

	// What a program keeps in a file, and what it runs when that changes: the first runs fail.
	file, runs := filepath.Join(dir, "limits.json"), filepath.Join(dir, "runs")
	script := filepath.Join(dir, "reload")
	if err := os.WriteFile(script, []byte(fmt.Sprintf("#!/bin/sh\ncat - >> %[1]s\necho \" $1 $ZONECAST_LANDED_PATH $ZONECAST_LANDED_REVISION $(cat $ZONECAST_LANDED_FILE)\" >> %[1]s\n[ $(wc -l < %[1]s) -gt 1 ]\n", runs)), 0o755); err != nil {
		t.Fatal(err)
	}
	watch := Start(t, "config watch", "config", "watch", "app/limits", "--config-socket", socket, "--write", file, "--exec", script+" word")
	ran := func(want ...string) {
		t.Helper()
		until(t, func() string {
			b, _ := os.ReadFile(runs) // not there: not run yet
			if got := strings.TrimSpace(string(b)); got != strings.Join(want, "\n") {
				return fmt.Sprintf("the command ran with\n%s\nwant\n%s", got, strings.Join(want, "\n"))
			}
			return ""
		})
	}
	first := `{"most":1} word app/limits commit1 {"most":1}`
	ran(first, first)

	db.Kill()
	killed := time.Now()
	older := func(what string) {
		t.Helper()
		c := is(what, `{"most":1}`)
		if least := time.Since(killed) - 300*time.Millisecond; c.Version != v1 || time.Duration(c.Age)*time.Millisecond < least {
			t.Errorf("%s: version %d, age %d ms %v after the store was killed", what, c.Version, c.Age, time.Since(killed))
		}
	}
	time.Sleep(2 * time.Second)
	older("the store is dead")
	proxy.Kill()
	if _, trouble := getConfig(t, socket, "app/limits"); !strings.Contains(trouble, "is a proxy running on this machine?") {
		t.Errorf("without a proxy: %s", trouble)
	}
	proxy, _ = startProxy(t, "etcd://"+address, dir, "--http", "127.0.0.1:0")
	older("the proxy is another")
	if c, _ := getConfig(t, socket, "app/large"); string(c.Value) != large {
		t.Errorf("a value of %d octets came with %d", len(large), len(c.Value))
	}
	if !watch.Running() {
		t.Error("who watches has ended")
	}

	startStore()
	v2 := l.land("app/limits", `{"most":2}`)
	if c := is("the store is back", `{"most":2}`); c.Version != v2 {
		t.Errorf("version %d, want %d", c.Version, v2)
	}
	second := `{"most":2} word app/limits commit2 {"most":2}`
	ran(first, first, second)
	if b, err := os.ReadFile(file); err != nil || string(b) != `{"most":2}` {
		t.Errorf("%s has %s, %v", file, b, err)
	}
	watch.Stop()
	if !testing.Short() { // a long poll outlasts the server's other deadlines
		c := landed.NewClient(socket)
		defer c.Close()
		began := time.Now()
		if _, err := c.Next(t.Context(), "app/limits", v2, 35*time.Second); err != landed.ErrUnchanged || time.Since(began) < 34*time.Second {
			t.Errorf("a poll of 35 s ended after %v: %v", time.Since(began), err)
		}
	}
	proxy.Stop()
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left over: %v", err)
	}
}

// serviceStatus is what of /status these tests look at.
type serviceStatus struct {
	Details string `json:"details"`
	Tasks   []struct {
		Name   string `json:"name"`
		Detail string `json:"detail"`
	} `json:"tasks"`
}

// TestLandedGuard changes the bounds of the presenter's guards by a configuration that
// lands: they hold what they let through before, without a restart; bounds that make no
// sense are refused and told, and the last good ones stay.
func TestLandedGuard(t *testing.T) {
	in := newSources(t)
	hosts := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "h%d A 192.0.2.%d\n", i, i+1)
		}
		return b.String()
	}
	in.zone("example.net", zoneOf(hosts(60)))
	dir := t.TempDir()
	u := StartUp(t, UpOptions{Hosts: 1, Zones: in.zones, Guarded: true, Args: []string{"--config-from", "zonecast/presenter", "--config-socket", filepath.Join(dir, "config.sock")}})
	var ends struct {
		Store string `json:"store"`
	}
	b, err := os.ReadFile(filepath.Join(u.Dir, "endpoints.json"))
	if err == nil {
		err = json.Unmarshal(b, &ends)
	}
	if err != nil {
		t.Fatal(err)
	}
	startProxy(t, ends.Store, dir)
	l := newLander(t, strings.Replace(ends.Store, "etcd+unix://", "unix://", 1))
	status := func() (s serviceStatus, detail string) {
		resp, err := http.Get("http://" + u.HTTP + "/status")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range s.Tasks {
			if task.Name == "landed options" {
				detail = task.Detail
			}
		}
		return s, detail
	}
	says := func(want string) serviceStatus {
		t.Helper()
		var s serviceStatus
		until(t, func() string {
			var detail string
			if s, detail = status(); !strings.Contains(detail, want) {
				return fmt.Sprintf("status of landed options is %q, want %q in it", detail, want)
			}
			return ""
		})
		return s
	}
	held := func() int {
		h, err := u.Client().Control.Holds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(h)
	}

	in.zone("example.net", zoneOf(hosts(55)))
	holds(t, u, "h55.example.net", "A", "NXDOMAIN")
	l.land("zonecast/presenter", `{"presenter":{"guard":{"few":1,"zone":{"removed":"1% 1..1"}}}}`)
	says("of revision commit1 in force")
	in.zone("example.net", zoneOf(hosts(50)))
	until(t, func() string {
		if held() != 1 {
			return "5 records of 55 that go are not held by bounds of 1 %"
		}
		return ""
	})
	holds(t, u, "h50.example.net", "A", "NOERROR 192.0.2.51")

	l.land("zonecast/presenter", `{"presenter":{"guard":{"few":0}}}`)
	if s := says("of revision commit2 was refused, the last good one stays"); !strings.Contains(s.Details, "few is 0") || !strings.Contains(s.Details, "landed options: ") {
		until(t, func() string {
			if s, _ := status(); !strings.Contains(s.Details, "few is 0") {
				return "the warning is missing: " + s.Details
			}
			return ""
		})
	}
	in.zone("example.net", zoneOf(hosts(49)))
	time.Sleep(time.Second)
	if held() != 1 {
		t.Error("the last good bounds do not stay")
	}
	l.land("zonecast/presenter", `{"presenter":{"guard":{"window":"10m"}}}`)
	says("of revision commit3 in force")
	in.zone("example.net", zoneOf(hosts(48)))
	holds(t, u, "h50.example.net", "A", "NXDOMAIN")
}
