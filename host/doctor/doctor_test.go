package doctor

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/host"
	"github.com/zonecast/zonecast/snapshot"
)

func TestKernelAddr(t *testing.T) {
	for text, want := range map[string]string{
		"3500007F:0035":                         "127.0.0.53:53",
		"00000000:14EB":                         "0.0.0.0:5355",
		"B80D0120000000000000000053000000:0035": "[2001:db8::53]:53",
		"0000000000000000FFFF00000100007F:0035": "127.0.0.1:53",
	} {
		got, ok := kernelAddr(text)
		if !ok || got.String() != want {
			t.Errorf("%s: got %v %v, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "35:0035", "3500007F", "3500007F:x", "350000zz:0035"} {
		if got, ok := kernelAddr(text); ok {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

// A port that another program has is found, with the program's name, and what to do.
func TestPortTaken(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at := netip.MustParseAddrPort(c.LocalAddr().String())
	got := ports(t.Context(), Facts{Authority: []netip.AddrPort{at}})
	if got.Verdict != Bad || !strings.Contains(got.Found, "is taken by doctor.test") || !strings.Contains(got.Do, "ss -lpn") {
		t.Errorf("got %+v", got)
	}
	c.Close()
	if got := ports(t.Context(), Facts{Authority: []netip.AddrPort{at}}); got.Verdict != OK {
		t.Errorf("when it is free: %+v", got)
	}
	if got := ports(t.Context(), Facts{Authority: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:5353")}}); got.Verdict != Bad {
		t.Errorf("an address that the machine has not: %+v", got)
	}
}

// systemd-resolved listens on port 53, as on most machines of today.
func TestPortTakenByResolved(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.53:53")
	if err != nil {
		t.Skipf("port 53 cannot be had here: %v", err)
	}
	defer c.Close()
	// The name of a thread is that of the process to /proc/PID/comm, for the first one.
	comm := "/proc/self/comm"
	was, err := os.ReadFile(comm)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(comm, []byte("systemd-resolve"), 0); err != nil {
		t.Skip(err)
	}
	defer func() {
		if err := os.WriteFile(comm, was, 0); err != nil {
			t.Error(err)
		}
	}()
	for listen, want := range map[string]Verdict{"0.0.0.0:53": Bad, "127.0.0.53:53": Bad, "192.0.2.53:53": OK, "127.0.0.1:5300": OK} {
		f := Facts{Authority: []netip.AddrPort{netip.MustParseAddrPort(listen)}}
		got := resolved(t.Context(), f)
		if got.Verdict != want || want == Bad && !strings.Contains(got.Do, "DNSStubListener=no") {
			t.Errorf("%s: %+v", listen, got)
		}
		if want == Bad {
			if got := ports(t.Context(), f); got.Verdict != Bad || !strings.Contains(got.Do, "DNSStubListener=no") {
				t.Errorf("%s: %+v", listen, got)
			}
		}
	}
}

// Keys that others may write, or that are none, are found.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	private := filepath.Join(dir, "key")
	if _, err := snapshot.LoadOrCreateKey(private); err != nil {
		t.Fatal(err)
	}
	f := Facts{Keys: []string{private + ".pub"}, Journal: filepath.Join(dir, "journal")}
	if got := keys(t.Context(), f); got.Verdict != OK {
		t.Errorf("got %+v", got)
	}
	if err := os.Chmod(private+".pub", 0o666); err != nil {
		t.Fatal(err)
	}
	if got := keys(t.Context(), f); got.Verdict != Bad || !strings.Contains(got.Do, "chmod go-w") {
		t.Errorf("a key that all may write: %+v", got)
	}
	if err := os.WriteFile(private+".pub", []byte("ssh-ed25519 AAAA"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := keys(t.Context(), f); got.Verdict != Bad {
		t.Errorf("a key that is none: %+v", got)
	}
	f.Keys = []string{filepath.Join(dir, "none")}
	if got := keys(t.Context(), f); got.Verdict != Bad || !strings.Contains(got.Do, "publisher.key.pub") {
		t.Errorf("no key: %+v", got)
	}
}

// Every check says something of a host on which nothing is right, and what is bad or
// doubtful says what to do.
func TestNothingIsRight(t *testing.T) {
	dir := t.TempDir()
	c := host.DefaultConfig()
	c.Dir, c.Run = dir, []string{"agent", "authority", "recursor", "announcer"}
	if err := os.Mkdir(c.Path("run"), 0o755); err != nil {
		t.Fatal(err)
	}
	at := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}
	f := Facts{
		Config: c, Program: "/nonexistent", Dataset: "internal", FreshZone: "\x08zonecast\x08internal\x00", Journal: filepath.Join(dir, "journal"), StatusDir: dir,
		Keys: []string{filepath.Join(dir, "key.pub")}, HandOver: dir, MaxTCP: 1 << 40, Dirs: []string{"/nonexistent/a/b"},
		Authority: at, Recursor: at, RecursorDir: dir, Unbound: "/bin/false", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.53")},
		Mistakes: map[string]error{"agent": os.ErrInvalid},
	}
	for i, got := range Examine(t.Context(), f) {
		if got.Check != Names()[i] || got.Found == "" {
			t.Errorf("check %d says %+v", i, got)
		}
		if (got.Do != "") != (got.Verdict == Bad || got.Verdict == Warn) {
			t.Errorf("%s is %s and says to do %q", got.Check, got.Verdict, got.Do)
		}
		for _, sure := range []string{"options", "directories", "keys", "journal", "processes", "hand-over", "authority", "authority tcp", "serving", "unbound", "unbound.conf", "vip addresses"} {
			if got.Check == sure && got.Verdict != Bad {
				t.Errorf("%+v, want bad", got)
			}
		}
	}
}

// docs/host.md lists the checks.
func TestChecksAreListed(t *testing.T) {
	b, err := os.ReadFile("../../docs/host.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "Its checks: " + strings.Join(Names(), ", ") + "."; !strings.Contains(string(b), want) {
		t.Errorf("docs/host.md has not %q", want)
	}
}
