package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// typed is one command of a page and the output that the page shows for it; "…" in
// it stands for anything, alone on a line for any lines.
type typed struct {
	command string
	want    string
}

// session reads the ```console blocks of a page.
func session(t *testing.T, page string) []typed {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []typed
	inside, document := false, ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case document != "": // a here-document goes on
			all[len(all)-1].command += "\n" + line
			if line == document {
				document = ""
			}
		case strings.HasPrefix(line, "$ "):
			all = append(all, typed{command: line[2:]})
			if _, end, found := strings.Cut(line, "<<'"); found {
				document = strings.TrimSuffix(end, "'")
			}
		case len(all) > 0:
			all[len(all)-1].want += line + "\n"
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no ```console block", page)
	}
	return all
}

func (x typed) matches(got string) bool {
	expr := regexp.QuoteMeta(x.want)
	expr = strings.ReplaceAll(expr, "…\n", "(?s:.*)\n")
	expr = strings.ReplaceAll(expr, "…", "[^\n]*")
	return regexp.MustCompile("^" + expr + "$").MatchString(got)
}

// TestReadme does what a newcomer does: a fresh copy of what is in the repository,
// `make up`, and the README's session, typed as it stands there.
func TestReadme(t *testing.T) {
	for _, tool := range []string{"git", "make", "dig"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v; hint: make deps installs what the tests need", err)
		}
	}
	dir := filepath.Join(t.TempDir(), "zonecast")
	copyTracked(t, Root(), dir)

	up := exec.Command("make", "up")
	up.Dir = dir
	up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := &lockedBuffer{}
	up.Stdout, up.Stderr = out, out
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	t.Cleanup(func() {
		syscall.Kill(-up.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			syscall.Kill(-up.Process.Pid, syscall.SIGKILL)
			t.Error("make up does not end within 30 s of SIGTERM")
		}
	})
	for deadline := time.Now().Add(5 * time.Minute); !strings.Contains(out.String(), "\nready"); {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("make up ended: %v\n%s", err, out.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("make up is not ready after 5 minutes:\n%s", out.String())
		}
	}
	until(t, func() string { // it is written line by line
		if !strings.Contains(out.String(), "try next:") {
			return "make up does not say what to try next:\n" + out.String()
		}
		return ""
	})

	typeSession(t, filepath.Join(dir, "README.md"), dir, nil)
}

// typeSession types a page's session in a directory, and compares what it gives.
func typeSession(t *testing.T, page, dir string, env []string) {
	t.Helper()
	// One shell for the whole session, as a person has; a mark after each command
	// tells where its output ends.
	commands := session(t, page)
	const mark = "=== end of output ==="
	var script strings.Builder
	for _, c := range commands {
		script.WriteString(c.command + "\necho '" + mark + "'\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	sh := exec.CommandContext(ctx, "bash")
	sh.Dir, sh.Env = dir, append(os.Environ(), env...)
	sh.Stdin = strings.NewReader(script.String())
	// With what it has started, also when the session breaks off.
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	sh.Cancel = func() error { return syscall.Kill(-sh.Process.Pid, syscall.SIGKILL) }
	sh.WaitDelay = 10 * time.Second
	defer func() { _ = syscall.Kill(-sh.Process.Pid, syscall.SIGKILL) }() // there may be nobody left
	got, err := sh.CombinedOutput()
	if err != nil {
		t.Errorf("the session's shell: %v", err)
	}
	outputs := strings.Split(string(got), mark+"\n")
	if len(outputs) != len(commands)+1 {
		t.Fatalf("the session broke off after %d of %d commands:\n%s", len(outputs)-1, len(commands), got)
	}
	for i, c := range commands {
		if !c.matches(outputs[i]) {
			t.Errorf("$ %s\ngives:\n%s\nthe page says:\n%s", c.command, outputs[i], c.want)
		}
	}
}

// copyTracked copies what git tracks, as it is in the work tree.
func copyTracked(t *testing.T, from, to string) {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = from
	list, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue // removed in the work tree
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, b, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}
