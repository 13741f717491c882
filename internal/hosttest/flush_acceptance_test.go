//go:build acceptance && interop

package hosttest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/daemon"
)

// flushEntries is how many names the cache of TestFlushCost has.
const flushEntries = 1_000_000

// TestFlushCost measures what Unbound's flush, flush_type and flush_zone cost it, in its own processor
// time, with a million names in its cache: what the recursor's bound on names flushed one by one is
// about.
func TestFlushCost(t *testing.T) {
	needUnbound(t)
	dir, err := os.MkdirTemp("", "zonecast-flush-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	free, err := net.ListenPacket("udp4", "127.0.0.1:0") // nobody asks it, but it wants a port
	if err != nil {
		t.Fatal(err)
	}
	port := free.LocalAddr().(*net.UDPAddr).Port
	free.Close()
	conf := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf("server:\n directory: %q\n username: \"\"\n chroot: \"\"\n interface: 127.0.0.1@%d\n do-daemonize: no\n use-syslog: no\n logfile: \"\"\n pidfile: %q\n rrset-cache-size: 2g\n msg-cache-size: 2g\n num-threads: 1\n"+
		"remote-control:\n control-enable: yes\n control-interface: %q\n control-use-cert: no\n", dir, port, dir+"/pid", dir+"/ctl")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	path, err := daemon.Find("unbound")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-d", "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "its control", func() bool {
		c, err := net.Dial("unix", dir+"/ctl")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	b, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(b))
	// used is its processor time so far; the kernel counts in hundredths of a second.
	used := func() time.Duration {
		t.Helper()
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		var sum time.Duration
		for _, f := range fields[11:13] { // utime, stime (proc(5))
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
		return sum
	}
	tell := func(command string, more func(w *bufio.Writer)) {
		t.Helper()
		c, err := net.Dial("unix", dir+"/ctl")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w := bufio.NewWriterSize(c, 1<<20)
		fmt.Fprintf(w, "UBCT1 %s\n", command)
		more(w)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if said, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(said, "ok") {
			t.Fatalf("%s: %q, %v", command, said, err)
		}
	}
	name := func(i int) string { return fmt.Sprintf("n%d.z%d.example.net.", i, i%100) }
	tell("load_cache", func(w *bufio.Writer) { // as dump_cache writes it
		fmt.Fprintln(w, "START_RRSET_CACHE")
		for i := range flushEntries {
			fmt.Fprintf(w, ";rrset 86399 1 0 3 3\n%s\t86399\tIN\tA\t192.0.2.1\n", name(i))
		}
		fmt.Fprintln(w, "END_RRSET_CACHE\nSTART_MSG_CACHE")
		for i := range flushEntries {
			fmt.Fprintf(w, "msg %s IN A 33152 1 86399 3 1 0 0\n%s IN A 0\n", name(i), name(i))
		}
		fmt.Fprintln(w, "END_MSG_CACHE\nEOF")
	})
	each := func(n int, command func(i int) string) time.Duration {
		t.Helper()
		before := used()
		for i := range n {
			tell(command(i), func(*bufio.Writer) {})
		}
		return (used() - before) / time.Duration(n)
	}
	flush := each(2000, func(i int) string { return "flush " + name(100*i+1) })
	flushType := each(2000, func(i int) string { return "flush_type " + name(100*i+2) + " A" })
	nothing := each(20, func(i int) string { return fmt.Sprintf("flush_zone none%d.example.org.", i) })
	some := each(10, func(i int) string { return fmt.Sprintf("flush_zone z%d.example.net.", 10+i) })
	t.Logf("%d names in the cache: flush takes Unbound %v, flush_type %v, flush_zone %v where nothing is to go and %v where %d names are",
		flushEntries, flush, flushType, nothing, some, flushEntries/100)
	if nothing < flush {
		t.Errorf("flush_zone takes %v, less than flush with %v: the bound on names flushed one by one is wrong", nothing, flush)
	}
}
