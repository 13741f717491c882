//go:build acceptance && interop

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/dnsload"
)

// copyFile copies a program to a new file.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// aimUpgradeRate is the load under which an upgrade loses nothing, in queries a second.
const aimUpgradeRate = 50_000

// bufferDrops is how many UDP packets this machine has dropped because a socket's buffer was full
// (RcvbufErrors of /proc/net/snmp).
func bufferDrops(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if words[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		n, err := strconv.Atoi(words[slices.Index(names, "RcvbufErrors")])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatal("/proc/net/snmp has no UDP")
	return 0
}

// TestUpgradeUnderLoad exchanges the program under a running host, and then its supervisor,
// while the authority is asked: no more is lost than in a run without that.
func TestUpgradeUnderLoad(t *testing.T) {
	h := newDNSHost(t, "leave = true")
	bin := t.TempDir()
	h.binary = filepath.Join(bin, "zonecast")
	copyFile(t, Build(t), h.binary)
	h.start()
	defer func() { // they are left
		for _, part := range []string{"agent", "authority"} {
			if pid := h.pid(part); pid != 0 {
				syscall.Kill(pid, syscall.SIGTERM)
			}
		}
	}()
	const length = 20 * time.Second
	h.load(aimUpgradeRate, 2*time.Second, func() {}) // caches, and pages of the image
	load := func(do func()) *dnsload.Result {
		before := bufferDrops(t)
		r := h.load(aimUpgradeRate, length, do)
		t.Logf("%d dropped by full buffers, anywhere on this machine", bufferDrops(t)-before)
		return r
	}
	calm := load(func() {})
	if wanted := aimUpgradeRate * uint64(length/time.Second); calm.Sent < wanted*9/10 || calm.Lost > wanted/1000 {
		t.Skipf("this machine does not carry %d queries/s now: of %d queries %d were sent and %d lost without an upgrade; %s", aimUpgradeRate, wanted, calm.Sent, calm.Lost, Machine())
	}

	exchange := func() {
		copyFile(t, Build(t), h.binary+".new")
		if err := os.Rename(h.binary+".new", h.binary); err != nil {
			t.Fatal(err)
		}
	}
	exchange()
	byReload := load(func() {
		pid := h.pid("authority")
		h.Signal(syscall.SIGHUP)
		h.another("authority", pid)
	})
	exchange()
	byRestart := load(func() {
		pid := h.pid("authority")
		h.Stop() // the parts go on, and are taken over by the newer one, which replaces them
		h.start()
		h.another("authority", pid)
	})
	t.Logf("at %d queries/s for %v: lost %d undisturbed, %d with an upgrade by reload, %d with an upgrade by restart; %s", aimUpgradeRate, length, calm.Lost, byReload.Lost, byRestart.Lost, Machine())
	for how, lost := range map[string]uint64{"reload": byReload.Lost, "restart": byRestart.Lost} {
		if lost > calm.Lost {
			t.Errorf("an upgrade by %s loses %d queries, an undisturbed run %d", how, lost, calm.Lost)
		}
	}
}

// TestDebianPackageLives takes the package through its life in a fresh Debian: installed,
// configured, started, asked, upgraded, stopped, removed, purged.
func TestDebianPackageLives(t *testing.T) {
	if _, err := exec.LookPath("mmdebstrap"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and mmdebstrap: apt-get install mmdebstrap")
	}
	hash := func(file string) [32]byte {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(b)
	}
	first, again, second := makeDeb(t, "v1.0.0"), makeDeb(t, "v1.0.0"), makeDeb(t, "v1.0.1")
	if hash(first) != hash(again) {
		t.Error("the same program gives two different packages")
	}

	root := filepath.Join(t.TempDir(), "root")
	args := []string{"--variant=minbase", "--mode=root", "bookworm", root}
	for _, file := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"} { // this machine's mirror
		if _, err := os.Stat(file); err == nil {
			args = append(args, file)
			break
		}
	}
	output(t, "mmdebstrap", args...)
	proc := filepath.Join(root, "proc")
	output(t, "mount", "-t", "proc", "proc", proc)
	t.Cleanup(func() { output(t, "umount", proc) })
	within := func(command ...string) string {
		t.Helper()
		return output(t, "chroot", append([]string{root}, command...)...)
	}
	install := func(deb string) {
		t.Helper()
		copyFile(t, deb, filepath.Join(root, filepath.Base(deb)))
		within("dpkg", "--force-confold", "-i", "/"+filepath.Base(deb))
	}
	install(first)
	if said := within("id", "zonecast"); !strings.Contains(said, "zonecast") {
		t.Errorf("id: %s", said)
	}
	if said := within("stat", "-c", "%U %a", "/var/lib/zonecast"); strings.TrimSpace(said) != "zonecast 755" {
		t.Errorf("/var/lib/zonecast is of %s", said)
	}

	base := FreePorts(t, 9)
	store := fmt.Sprintf("127.0.0.1:%d", base+8)
	Start(t, "store", "run", "store", "--etcd-dir", filepath.Join(t.TempDir(), "store"), "--etcd-listen", store)
	u := StartUp(t, UpOptions{Hosts: 1, Zones: filepath.Join(Root(), "examples", "wikimedia-cut", "zones"), Args: []string{"--store", "etcd://" + store}})
	key, err := os.ReadFile(filepath.Join(u.Dir, "keys", "publisher.key.pub"))
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "etc/zonecast/publisher.key.pub"), key, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	// Port 53, which the user of the parts may bind by a capability alone.
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 77, byte(rand.IntN(256)), byte(1 + rand.IntN(254))}), 53)
	options := fmt.Sprintf("store = \"etcd://%s\"\n[host]\nname = \"ns1\"\nhttp = \"127.0.0.1:%d\"\n[authority]\nlisten = [%q]\n", store, base, at)
	config := filepath.Join(root, "etc/zonecast/zonecast.toml")
	if err := os.WriteFile(config, []byte(options), 0o644); err != nil {
		t.Fatal(err)
	}

	h := &dnsHost{t: t, dir: filepath.Join(root, "var/lib/zonecast"), config: config, at: at}
	start := func() {
		t.Helper()
		if h.Process, err = launch(t, "/usr/sbin/chroot", "the host", nil, []string{root, "/etc/sv/zonecast-host/run"}); err != nil {
			t.Fatal(err)
		}
		h.answers("from the package")
	}
	start()
	t.Cleanup(func() { h.Stop() })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid("authority")))
	if err != nil || strings.Contains(string(status), "Uid:\t0") || !strings.Contains(string(status), "NoNewPrivs:\t1") {
		t.Errorf("the authority has %v\n%s", err, status)
	}
	h.until("a doctor who finds nothing bad", func() bool {
		return exec.Command("chroot", root, "zonecast", "host", "doctor", "--config", "/etc/zonecast/zonecast.toml").Run() == nil
	})

	pid := h.pid("authority")
	install(second)
	if b, err := os.ReadFile(config); err != nil || string(b) != options {
		t.Errorf("after the upgrade the options are %q, %v", b, err)
	}
	h.upgrade(200, 4*time.Second, func() {
		h.Signal(syscall.SIGHUP) // as postinst does where a manager runs
		h.another("authority", pid)
	})
	h.Stop()
	for _, part := range []string{"agent", "authority"} {
		if pid := h.pid(part); pid != 0 {
			t.Errorf("after the stop %s runs as %d", part, pid)
		}
	}

	within("dpkg", "-r", "zonecast")
	if _, err := os.Stat(filepath.Join(root, "var/lib/zonecast/journal")); err != nil {
		t.Errorf("removing without purging: %v", err)
	}
	within("dpkg", "-P", "zonecast")
	for _, path := range []string{"usr/bin/zonecast", "etc/zonecast", "etc/sv/zonecast-host", "var/lib/zonecast", "var/log/zonecast", "usr/share/doc/zonecast", "lib/systemd/system/zonecast-host.service"} {
		if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
			t.Errorf("after purging there is /%s", path)
		}
	}
	if exec.Command("chroot", root, "id", "zonecast").Run() == nil {
		t.Error("after purging there is the user zonecast")
	}
}
