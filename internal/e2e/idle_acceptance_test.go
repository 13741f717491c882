//go:build acceptance

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// aimIdle is the processor time that a zonecast in which nothing happens may take:
// 10 % of one processor, for three hosts, all stages and the store.
const aimIdle = 0.10

// TestIdle measures what the whole data set costs while nothing changes but the stamp
// of each second.
func TestIdle(t *testing.T) {
	data := NeedData(t)
	up := StartUp(t, UpOptions{Zones: filepath.Join(data, "zones"), Fleet: filepath.Join(data, "fleet.jsonl")})
	time.Sleep(10 * time.Second) // what follows a start: snapshots, folding
	pids := children(t, up.cmd.Process.Pid)
	pids["up"] = up.cmd.Process.Pid
	const length = 30 * time.Second
	before := map[string]process{}
	for name, pid := range pids {
		before[name] = look(t, pid)
	}
	time.Sleep(length)
	whole := 0.0
	for name, pid := range pids {
		now := look(t, pid)
		share := (now.cpu - before[name].cpu).Seconds() / length.Seconds()
		whole += share
		t.Logf("%s: %.1f %% of one processor, %d MiB resident", name, 100*share, now.resident>>20)
	}
	t.Logf("together %.1f %% of one processor over %v; %s", 100*whole, length, Machine())
	if whole >= aimIdle {
		t.Errorf("an idle zonecast takes %.1f %% of one processor, the aim is under %.0f %%", 100*whole, 100*aimIdle)
	}
}

type process struct {
	cpu      time.Duration
	resident int64 // octets
	parent   int
}

// look reads /proc/<pid>/stat.
func look(t *testing.T, pid int) process {
	t.Helper()
	p, err := stat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stat reads /proc/<pid>/stat (proc_pid_stat(5)). Ticks are 10 ms: USER_HZ is 100
// wherever Go runs on Linux.
func stat(pid int) (p process, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, err
	}
	// Fields after the command, which is in parentheses, count from 3: state, ppid, …
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const ppid, utime, stime, cutime, cstime, rss = 4, 14, 15, 16, 17, 24
	var n [rss + 1]int64
	for _, i := range []int{ppid, utime, stime, cutime, cstime, rss} {
		if n[i], err = strconv.ParseInt(string(f[i-3]), 10, 64); err != nil {
			return p, err
		}
	}
	return process{
		cpu:      time.Duration(n[utime]+n[stime]+n[cutime]+n[cstime]) * 10 * time.Millisecond, // with children that ended
		resident: n[rss] * int64(os.Getpagesize()),
		parent:   int(n[ppid]),
	}, nil
}

// children are those of a process, by the first words of their commands.
func children(t *testing.T, pid int) map[string]int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, file := range files {
		n, err := strconv.Atoi(filepath.Base(file))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := stat(n); err != nil || p.parent != pid { // any other may have ended
			continue
		}
		line, err := os.ReadFile(filepath.Join(file, "cmdline"))
		if err != nil {
			continue
		}
		words := bytes.Split(line, []byte{0})
		found[fmt.Sprintf("%s (%d)", bytes.Join(words[:min(len(words), 3)], []byte(" ")), n)] = n
	}
	return found
}
