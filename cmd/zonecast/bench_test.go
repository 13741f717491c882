package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// echoDNS answers every query with NOERROR and no record until the test ends; names
// that begin with "s" get nothing.
func echoDNS(t *testing.T) string {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if b[13] != 's' {
				b[2] |= 0x80
				c.WriteToUDPAddrPort(b[:n], from)
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended
	})
	return c.LocalAddr().String()
}

func runBench(t *testing.T, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(context.Background(), append([]string{"bench", "dns"}, args...), strings.NewReader(stdin), &out, &errs)
	return out.String(), errs.String(), status
}

func TestBenchDNS(t *testing.T) {
	target := echoDNS(t)
	hgrm := filepath.Join(t.TempDir(), "latency.hgrm")
	out, said, status := runBench(t, "www.example.net A\nweb1.example.net AAAA D\n", target, "--file", "-", "--rate", "100", "--queries", "50",
		"--interval", "200ms", "--histogram", hgrm, "--server-pid", strconv.Itoa(os.Getpid()))
	if status != exitDone || said != "" {
		t.Fatalf("status %d: %s%s", status, out, said)
	}
	for _, want := range []string{
		"target   " + target + " over UDP, 100 queries/s (open loop), 1 thread, 8 sockets, 0.5", "queries  50 sent, 50 answered, 0 lost, of them 0 late\n",
		"\nrate     ", "answers  NOERROR 50; 0.00 records, ", "an answer at the server\n", "     0.2 s  ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if b, err := os.ReadFile(hgrm); err != nil || !strings.Contains(string(b), "Total count    =           50]") {
		t.Errorf("histogram: %s, %v", b, err)
	}

	out, said, status = runBench(t, "", target, "--name", "www.example.net", "--window", "4", "--queries", "100", "--json")
	var v benchView
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != exitDone || said != "" {
		t.Fatalf("status %d, %v: %s%s", status, err, out, said)
	}
	if v.Loop != "closed" || v.Window != 4 || v.Sent != 100 || v.Answered != 100 || v.Rcodes["NOERROR"] != 100 || v.Latency.Max <= 0 || v.Server != nil || v.Kept != nil {
		t.Errorf("result %s", out)
	}
}

// With --interval each part is a line, and the last line is the whole.
func TestBenchIntervals(t *testing.T) {
	out, said, status := runBench(t, "", echoDNS(t), "--name", "www.example.net", "--rate", "200", "--time", "1s", "--interval", "200ms", "--json")
	if status != exitDone || said != "" {
		t.Fatalf("status %d: %s%s", status, out, said)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := len(lines) - 1
	sum := uint64(0)
	for i, line := range lines[:last] {
		var v struct{ Interval intervalView }
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.Interval.To <= v.Interval.From {
			t.Errorf("line %d, %s: %v", i+1, line, err)
		}
		sum += v.Interval.Counts.Answered
	}
	var v benchView
	if err := json.Unmarshal([]byte(lines[last]), &v); err != nil {
		t.Fatal(err)
	}
	if last < 3 || sum == 0 || sum > v.Answered || v.Answered != 200 || v.Due != 200 || v.Kept == nil || v.Lag == nil || v.Window != 0 {
		t.Errorf("%d lines with %d answers, then %s", last, sum, lines[last])
	}
}

func TestBenchStatus(t *testing.T) {
	target := echoDNS(t)
	for _, tt := range []struct {
		stdin string
		args  []string
		want  int
		says  string
	}{
		{"", []string{target, "--name", "silence.example.net", "--time", "50ms", "--timeout", "50ms"}, exitFailed, "zonecast: nothing was answered: "},
		{"", []string{"192.0.2.53", "--name", "www.example.net"}, exitUsage, "hint: if it is yours to load, say --yes-i-may-load 192.0.2.53\n"},
		{"", []string{target, "--name", "www.example.net", "--file", "x"}, exitUsage, "expected one of --file, --name and --expect"},
		{"", []string{target, "--name", "www.example.net", "--rate", "-1"}, exitUsage, "hint: see zonecast bench dns --help"},
		{"www.example.net A NOERROR 0\n", []string{target, "--expect", "-"}, exitDone, ""},
		{"www.example.net A NOERROR 0\na A NXDOMAIN 0\n", []string{target, "--expect", "-"}, exitFailed, "zonecast: 1 of 2 answers from " + target + " not as expected\n"},
	} {
		out, said, status := runBench(t, tt.stdin, tt.args...)
		if status != tt.want || !strings.Contains(said, tt.says) || tt.says == "" && said != "" {
			t.Errorf("%q: status %d, want %d: %s%s", tt.args, status, tt.want, out, said)
		}
	}
	out, _, _ := runBench(t, "www.example.net A NOERROR 0\na A NXDOMAIN 0\n", target, "--expect", "-")
	if want := "a. A: expected NXDOMAIN 0, found NOERROR 0\n1 of 2 answers as expected\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	out, _, _ = runBench(t, "a A NXDOMAIN 0\n", target, "--expect", "-", "--json")
	if want := `{"target":"` + target + `","asked":1,"right":0,"wrong":[{"name":"a.","type":"A","expected":"NXDOMAIN 0","found":"NOERROR 0"}]}` + "\n"; out != want {
		t.Errorf("%s, want %s", out, want)
	}
}
