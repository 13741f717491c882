//go:build interop

package compliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// namedConf answers cookies and has an identity, unlike that of difftest: what is
// looked at here is the protocol.
const namedConf = `options {
	directory "%[1]s"; pid-file "%[1]s/named.pid"; session-keyfile "%[1]s/session.key"; managed-keys-directory "%[1]s";
	listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; notify no; dnssec-validation no; allow-transfer { none; }; empty-zones-enable no; version none; hostname none;
	server-id "named"; answer-cookie yes; minimal-responses yes; minimal-any yes; max-udp-size 1232; querylog no;
};
controls { };
zone "%[3]s" { type primary; file "%[4]s"; };
`

// TestInteropNamed holds the table itself against BIND's named, whose makers wrote
// the tests that much of it is from.
func TestInteropNamed(t *testing.T) {
	path, err := exec.LookPath("named")
	if err != nil {
		path = "/usr/sbin/named"
	}
	zone, err := filepath.Abs("zones/example.net")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf, addr := filepath.Join(dir, "named.conf"), freeAddr(t)
	if err := os.WriteFile(conf, fmt.Appendf(nil, namedConf, dir, addr.Port(), Apex, zone), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, addr, path, "-g", "-n", "1", "-c", conf)
	judge(t, addr, Features{NSID: true, Cookies: true}, nil)
}

// start runs a server until the test ends, and waits until it answers.
func start(t *testing.T, addr netip.AddrPort, path string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("%s does not end", path)
			cmd.Process.Kill()
			<-done
		}
	})
	plain := Case{Name: "ready", Query: apex().octets(), want: good(soa)}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		wrong, err := plain.Ask(t.Context(), addr)
		if err == nil && len(wrong) == 0 {
			// UDP answers before TCP listens, with some.
			var c net.Conn
			if c, err = net.Dial("tcp", addr.String()); err == nil {
				c.Close()
				return
			}
		}
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("%s does not answer: %v %v; its log:\n%s", path, wrong, err, b)
		}
	}
}

func judge(t *testing.T, addr netip.AddrPort, f Features, allowed map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	problems, err := Check(ctx, addr, f, allowed)
	for _, p := range problems {
		t.Error(p)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases, %d may fail", len(Cases(f)), len(allowed))
}

// freeAddr is an address whose port is free for UDP and TCP.
func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.ListenPacket("udp4", l.Addr().String())
		l.Close()
		if err != nil {
			continue
		}
		c.Close()
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	t.Fatal("no port is free for UDP and TCP")
	return netip.AddrPort{}
}
