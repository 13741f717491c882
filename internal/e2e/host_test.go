package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/dnsload"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// dnsHost is a host under `run host`, at the store of a `zonecast up`.
type dnsHost struct {
	t      testing.TB
	binary string // of zonecast; empty: Build's
	dir    string
	config string
	store  string
	key    string         // the publisher's public one
	at     netip.AddrPort // of its authority
	http   int            // the agent's port; the authority has the next
	*Process

	services string // where runit has the parts; empty: it has not
}

// newDNSHost configures a host; start starts it.
func newDNSHost(t testing.TB, more string) *dnsHost {
	t.Helper()
	u := StartUp(t, UpOptions{Hosts: 1, Zones: filepath.Join(Root(), "examples", "wikimedia-cut", "zones")})
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
	base := FreePorts(t, 8)
	h := &dnsHost{t: t, dir: filepath.Join(t.TempDir(), "host"), at: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(base)), http: base + 1}
	h.config, h.store, h.key = filepath.Join(t.TempDir(), "zonecast.toml"), ends.Store, filepath.Join(u.Dir, "keys", "publisher.key.pub")
	h.configure(more)
	return h
}

// configure writes the file of options; more are of the section host.
func (h *dnsHost) configure(more string) {
	h.t.Helper()
	text := fmt.Sprintf(`store = %q
[host]
name = "ns1"
dir = %q
keys = [%q]
http = "127.0.0.1:%d"
check-every = "200ms"
%s
[authority]
listen = [%q]
udp-workers = 2
`, h.store, h.dir, h.key, h.http, more, h.at)
	if err := os.WriteFile(h.config, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// start starts `run host` and waits until its authority answers.
func (h *dnsHost) start() {
	h.t.Helper()
	if h.binary == "" {
		h.binary = Build(h.t)
	}
	p, err := launch(h.t, h.binary, "zonecast run host", nil, []string{"run", "host", "--config", h.config})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Process = p
	h.t.Cleanup(func() {
		p.Stop()
		if h.t.Failed() {
			h.t.Logf("log of run host (its end):\n%s", p.Log())
		}
	})
	h.answers("after the start")
}

// answers waits until the authority answers from the dataset.
func (h *dnsHost) answers(when string) {
	h.t.Helper()
	h.until("an answer "+when, func() bool { return h.ask() == nil })
}

// until waits for a condition.
func (h *dnsHost) until(what string, is func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (h *dnsHost) ask() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	fresh, err := record.ParseName("_fresh.internal.zonecast.internal.")
	if err != nil {
		return err
	}
	r, err := dnswire.Query(ctx, h.at, fresh, record.TypeTXT, false)
	if err == nil && len(r.Answer) == 0 {
		err = fmt.Errorf("answers %s", r.RcodeName)
	}
	return err
}

// pid is the process of a part; 0: none.
func (h *dnsHost) pid(part string) int {
	b, err := os.ReadFile(filepath.Join(h.dir, "run", part+".pid"))
	if err != nil {
		return 0
	}
	number, _, _ := strings.Cut(string(b), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || syscall.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// signal signals a part.
func (h *dnsHost) signal(part string, s syscall.Signal) (pid int) {
	h.t.Helper()
	if pid = h.pid(part); pid == 0 {
		h.t.Fatalf("%s does not run", part)
	}
	if err := syscall.Kill(pid, s); err != nil {
		h.t.Fatal(err)
	}
	return pid
}

// another waits until a part has another process than the one with this pid.
func (h *dnsHost) another(part string, pid int) {
	h.t.Helper()
	h.until("another process of the "+part, func() bool { now := h.pid(part); return now != 0 && now != pid })
}

// finding is one of `host doctor`.
type finding struct{ Check, Verdict, Found, Do string }

// doctor runs `host doctor` and gives its findings by check.
func (h *dnsHost) doctor() (map[string]finding, int) {
	h.t.Helper()
	stdout, stderr, status := Run(h.t, "host", "doctor", "--json", "--config", h.config)
	var said struct{ Checks []finding }
	if err := json.Unmarshal([]byte(stdout), &said); err != nil {
		h.t.Fatalf("%v in %s%s", err, stdout, stderr)
	}
	all := map[string]finding{}
	for _, f := range said.Checks {
		all[f.Check] = f
	}
	return all, status
}

// TestHostKeepsRunning takes a host through what happens to daemons: killed, hanging, its
// supervisor killed; and the doctor's view of it.
func TestHostKeepsRunning(t *testing.T) {
	h := newDNSHost(t, "check-fall = 100")
	found, status := h.doctor()
	for _, check := range []string{"journal", "processes", "authority", "serving"} {
		if f := found[check]; f.Verdict != "bad" || f.Do == "" {
			t.Errorf("before the start the doctor says of %s: %+v", check, f)
		}
	}
	if status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	h.start()
	h.until("a doctor who finds nothing bad", func() bool {
		_, status := h.doctor()
		return status == 0
	})
	found, _ = h.doctor()
	for _, check := range []string{"options", "keys", "journal", "journal age", "store", "processes", "program", "ports", "hand-over", "authority", "authority tcp", "serving"} {
		if found[check].Verdict != "ok" {
			t.Errorf("%s: %+v", check, found[check])
		}
	}

	pid := h.signal("authority", syscall.SIGKILL)
	h.another("authority", pid)
	h.answers("after the authority was killed")

	pid = h.signal("agent", syscall.SIGKILL)
	h.another("agent", pid)

	// The supervisor dies: the authority answers, and the next one takes it over.
	pid = h.pid("authority")
	h.Kill()
	if err := h.ask(); err != nil {
		t.Errorf("after the death of the supervisor: %v", err)
	}
	h.start()
	h.until("the authority taken over", func() bool { return strings.Contains(h.Log(), "program of an earlier life taken over") })
	if now := h.pid("authority"); now != pid {
		t.Errorf("the next supervisor has the authority %d, want %d", now, pid)
	}
	h.Stop()

	// One that hangs accepts questions and answers none.
	h.configure("check-fall = 2\nstart-grace = \"0s\"")
	h.start()
	pid = h.signal("authority", syscall.SIGSTOP)
	h.another("authority", pid)
	h.answers("after the authority hung")
	if !strings.Contains(h.Log(), "part does not answer: started again") {
		t.Error("the log has nothing of it")
	}
	h.Stop()
	for _, part := range []string{"agent", "authority"} {
		if pid := h.pid(part); pid != 0 {
			t.Errorf("after the stop %s runs as %d", part, pid)
		}
	}
}

// TestHostReplaces puts another authority in the place of the one that runs, while it is
// asked: no query is lost.
func TestHostReplaces(t *testing.T) {
	h := newDNSHost(t, "leave = true")
	h.start()
	defer func() { // they are left
		for _, part := range []string{"agent", "authority"} {
			if pid := h.pid(part); pid != 0 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}()
	h.upgrade(300, 4*time.Second, func() {
		pid := h.pid("authority")
		h.Signal(syscall.SIGHUP)
		h.another("authority", pid)
	})
	if !strings.Contains(h.Log(), "part replaced") {
		t.Error("nothing was replaced")
	}
	// A mistake in the options replaces nothing.
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.config, append(text, "max-udp = 1\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := h.pid("authority")
	h.Signal(syscall.SIGHUP)
	h.until("a refusal", func() bool { return strings.Contains(h.Log(), "options are wrong, nothing is replaced") })
	if now := h.pid("authority"); now != pid {
		t.Errorf("the authority is %d after wrong options, want %d", now, pid)
	}
	if found, status := h.doctor(); status != 1 || !strings.Contains(found["options"].Found, "max-udp") {
		t.Errorf("status %d, options: %+v", status, found["options"])
	}
}

// upgrade asks the authority all the time while do is done; no query may be lost.
func (h *dnsHost) upgrade(rate float64, length time.Duration, do func()) {
	h.t.Helper()
	r := h.load(rate, length, do)
	if r.Sent == 0 || r.Lost > 0 || r.Refused > 0 {
		h.t.Errorf("%d of %d queries lost, %d refused", r.Lost, r.Sent, r.Refused)
	}
}

// load asks the authority all the time while do is done.
func (h *dnsHost) load(rate float64, length time.Duration, do func()) *dnsload.Result {
	h.t.Helper()
	qs, err := dnsload.ReadQueries(strings.NewReader("_fresh.internal.zonecast.internal. TXT\n"), "question", dnsload.Encoding{})
	if err != nil {
		h.t.Fatal(err)
	}
	var r *dnsload.Result
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err = dnsload.Run(context.Background(), dnsload.Config{Target: h.at, Rate: rate, Sockets: 16, Time: length, Timeout: 10 * time.Second}, qs)
	}()
	time.Sleep(length / 4)
	do()
	<-done
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Logf("%d queries sent, %d answered, %d lost", r.Sent, r.Answered, r.Lost)
	return r
}

// TestHostGuide does what docs/host.md says under "A DNS host in five minutes", with other
// addresses and directories.
func TestHostGuide(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(Root(), "docs", "host.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, guide, found := strings.Cut(string(b), "## A DNS host in five minutes")
	guide, _, ends := strings.Cut(guide, "\n## ")
	_, options, opens := strings.Cut(guide, "```toml\n")
	options, _, closes := strings.Cut(options, "```")
	if !found || !ends || !opens || !closes {
		t.Fatal("docs/host.md has no such section, or no options in it")
	}
	h := newDNSHost(t, "")
	replaced := 0
	for _, r := range [][2]string{
		{"   ", ""}, // it stands in a list
		{"etcd://192.0.2.11:2379,192.0.2.12:2379,192.0.2.13:2379", h.store},
		{`name = "ns1"`, fmt.Sprintf("name = \"ns1\"\ndir = %q\nkeys = [%q]\nhttp = \"127.0.0.1:%d\"", h.dir, h.key, h.http)},
		{"192.0.2.53:53", h.at.String()},
	} {
		replaced += strings.Count(options, r[0])
		options = strings.ReplaceAll(options, r[0], r[1])
	}
	if err := os.WriteFile(h.config, []byte(options), 0o644); err != nil {
		t.Fatal(err)
	}
	var commands [][]string
	for _, word := range strings.Split(guide, "`") {
		if args, is := strings.CutPrefix(word, "zonecast "); is {
			commands = append(commands, strings.Fields(strings.ReplaceAll(args, "/etc/zonecast/zonecast.toml", h.config)))
		}
	}
	if len(commands) != 2 || replaced < 4 {
		t.Fatalf("the guide has the commands %q and %d of what is replaced, expected 2 and more", commands, replaced)
	}
	h.Process = Start(t, "zonecast run host", commands[0]...)
	h.answers("to the guide")
	var said string
	h.until("a doctor who finds nothing bad", func() bool {
		var status int
		said, _, status = Run(t, commands[1]...)
		return status == 0
	})
	if !strings.Contains(said, "is answered") {
		t.Errorf("the doctor says\n%s", said)
	}
}
