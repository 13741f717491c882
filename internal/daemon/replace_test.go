package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// handsOver is a program whose second process ends the first, as one that takes over
// does, unless the file "bad" is there: then it does what that says.
func handsOver(t *testing.T) (c Config, dir string) {
	t.Helper()
	dir = t.TempDir()
	c = shell(t, fmt.Sprintf(`cd %s
if [ -e first ] && kill -0 "$(cat first)" 2>/dev/null; then
	[ ! -e bad ] || . ./bad
	kill -KILL "$(cat first)"
fi
echo $$ >first
while :; do sleep 0.02; done`, dir))
	c.HandsOver, c.Grace = true, 5*time.Second
	return c, dir
}

// A successor takes over while the first one runs; the daemon has that one then, and
// counts no failure.
func TestReplace(t *testing.T) {
	c, dir := handsOver(t)
	d, stop := start(t, c)
	noted := func() bool { // the process is there, and says so
		b, err := os.ReadFile(filepath.Join(dir, "first"))
		return err == nil && pid(d) != 0 && strings.TrimSpace(string(b)) == fmt.Sprint(pid(d))
	}
	eventually(t, "the first one", noted)
	first := pid(d)
	if err := d.Replace(context.Background(), nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	second := pid(d)
	if second == first || second == 0 || !gone(first) {
		t.Errorf("after %d there is %d, and the first one is gone: %v", first, second, gone(first))
	}
	eventually(t, "the second one", noted)

	// One that dies over it, and one that never comes to it, leave the old one in place.
	for script, want := range map[string]string{
		"echo no data here; exit 4":      "no data here",
		"while :; do sleep 0.02; done\n": "did not take over within 300ms",
	} {
		if err := os.WriteFile(filepath.Join(dir, "bad"), []byte(script), 0o644); err != nil {
			t.Fatal(err)
		}
		err := d.Replace(context.Background(), nil, 300*time.Millisecond)
		if want == "no data here" {
			// It may be slower than the time it has; then it was ended.
			if err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "within") {
				t.Errorf("%q: got %v", script, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", script, err, want)
		}
		if pid(d) != second || gone(second) {
			t.Errorf("%q: there is %d, and the second one, %d, is gone: %v", script, pid(d), second, gone(second))
		}
	}
	stop()
	if !gone(second) {
		t.Error("the second one goes on after the end")
	}
	if err := d.Replace(context.Background(), nil, time.Second); err == nil {
		t.Error("what does not run was replaced")
	}
}

// Restart ends what does not listen to SIGTERM, and starts another.
func TestRestart(t *testing.T) {
	c := shell(t, `trap "" TERM; while :; do sleep 0.02; done`)
	c.Grace = 50 * time.Millisecond
	d, _ := start(t, c)
	eventually(t, "a process", func() bool { return pid(d) != 0 })
	first := pid(d)
	if err := d.Restart(context.Background(), c.Grace); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another process", func() bool { now := pid(d); return now != 0 && now != first })
	if !gone(first) {
		t.Error("the first one is there")
	}
}
