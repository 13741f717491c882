//go:build interop

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/daemon"
)

// output runs a program and gives what it says; a failure is the test's.
func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// makeDeb builds the package, without compressing it.
func makeDeb(t testing.TB, version string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(Root(), "scripts", "make-deb.sh"), Build(t), t.TempDir(), version)
	cmd.Env = append(os.Environ(), "DEB_COMPRESSION=none", "SOURCE_DATE_EPOCH=1790000000")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make-deb.sh: %v\n%s", err, &said)
	}
	return strings.TrimSpace(string(out))
}

// TestPackageInterop looks at the Debian package: what is in it, and whether systemd and
// shells take it.
func TestPackageInterop(t *testing.T) {
	deb := makeDeb(t, "v1.2.3")
	if fields := output(t, "dpkg-deb", "-f", deb, "Package", "Version"); fields != "Package: zonecast\nVersion: 1.2.3\n" {
		t.Errorf("control file: %q", fields)
	}
	root := t.TempDir()
	output(t, "dpkg-deb", "-R", deb, root)
	for _, file := range []string{"usr/bin/zonecast", "etc/zonecast/zonecast.toml", "usr/share/man/man1/zonecast-run-host.1.gz", "usr/share/bash-completion/completions/zonecast", "usr/share/doc/zonecast/host.md", "DEBIAN/postinst"} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Error(err)
		}
	}
	conffiles, err := os.ReadFile(filepath.Join(root, "DEBIAN", "conffiles"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range strings.Fields(string(conffiles)) {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Errorf("conffiles: %v", err)
		}
	}
	var scripts []string
	for _, pattern := range []string{"DEBIAN/p*", "etc/sv/*/run", "etc/sv/*/log/run"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %d files", pattern, err, len(found))
		}
		scripts = append(scripts, found...)
	}
	for _, file := range append(scripts, filepath.Join(Root(), "deploy", "lxc", "make-host.sh")) {
		output(t, "sh", "-n", file)
		if b, err := os.ReadFile(file); err != nil || strings.Contains(string(b), "PART") {
			t.Errorf("%s: %v, or PART is in it", file, err)
		}
	}
	if said := output(t, "dpkg-deb", "-c", deb); !strings.Contains(said, "-rw-r----- root/root") || strings.Count(said, "-rw-r----- ") != 1 {
		t.Errorf("the file of options has not the mode 640, or others have:\n%s", said)
	}
	// The options as they are installed are valid, and are to be filled in.
	cmd := exec.Command(Build(t), "host", "options", "--config", filepath.Join(root, "etc/zonecast/zonecast.toml"))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "zonecast run authority") {
		t.Errorf("options as installed: %v\n%s", err, out)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	units, err := filepath.Glob(filepath.Join(root, "lib/systemd/system/*.service"))
	if err != nil || len(units) != 7 {
		t.Fatalf("%v, %d units, want 7", err, len(units))
	}
	for _, u := range units {
		b, err := os.ReadFile(u)
		if err == nil {
			err = os.WriteFile(u, bytes.ReplaceAll(b, []byte("/usr/bin/zonecast"), []byte(filepath.Join(root, "usr/bin/zonecast"))), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if said := output(t, "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...); said != "" {
		t.Errorf("systemd-analyze verify: %s", said)
	}
}

// TestLogServiceInterop: the log services of runit do nothing as root in a directory of the daemons'
// account: a link there leads to no file of root's.
func TestLogServiceInterop(t *testing.T) {
	if _, err := exec.LookPath("svlogd"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and runit")
	}
	b, err := os.ReadFile(filepath.Join(Root(), "deploy", "runit", "log-run.in"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "zonecast-log-") // not one of t, which nobody else may enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	logs, precious := filepath.Join(dir, "log"), filepath.Join(dir, "precious")
	const nobody = 65534
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(logs, 0o755), os.Chown(logs, nobody, nobody), os.Mkdir(precious, 0o755), os.Symlink(precious, filepath.Join(logs, "agent"))); err != nil {
		t.Fatal(err)
	}
	run := func(part string) (string, error) {
		text := strings.NewReplacer("PART", part, "/var/log/zonecast", logs, "--reuid zonecast", "--reuid nobody", "--regid zonecast", "--regid nogroup").Replace(string(b))
		cmd := exec.Command("timeout", "20", "sh", "-c", text)
		cmd.Stdin = strings.NewReader("a line\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	said, _ := run("agent") // that it cannot log there is all that may happen
	i, err := os.Stat(precious)
	if err != nil {
		t.Fatal(err)
	}
	if of := i.Sys().(*syscall.Stat_t).Uid; of != 0 {
		t.Errorf("the directory of root now belongs to user %d: %s", of, said)
	}
	if said, err := run("authority"); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if b, err := os.ReadFile(filepath.Join(logs, "authority", "current")); err != nil || !strings.HasSuffix(string(b), " a line\n") {
		t.Errorf("logged is %q, %v", b, err)
	}
}

// TestDeployInterop has Ruby read the cookbook and the role, and zonecast the options that
// the cookbook writes.
func TestDeployInterop(t *testing.T) {
	if _, err := exec.LookPath("ruby"); err != nil {
		t.Skip("ruby is not installed")
	}
	cookbook := filepath.Join(Root(), "deploy", "chef", "zonecast")
	for _, file := range []string{"metadata.rb", "attributes/default.rb", "recipes/default.rb"} {
		output(t, "ruby", "-c", filepath.Join(cookbook, file))
	}
	toml := filepath.Join(t.TempDir(), "zonecast.toml")
	output(t, "ruby", "-rerb", "-e", `
		node = { 'fqdn' => 'ns1.example.net' }
		vivid = Hash.new { |h, k| h[k] = {} }
		define_method(:default) { vivid }
		define_method(:node) { node }
		eval(File.read(ARGV[0]))
		@options = vivid['zonecast']['options'].merge('recursor' => { 'prefetch' => false, 'threads' => 2, 'allow' => ['192.0.2.0/24', '2001:db8::/32'] })
		File.write(ARGV[2], ERB.new(File.read(ARGV[1]), trim_mode: '-').result(binding))
	`, filepath.Join(cookbook, "attributes/default.rb"), filepath.Join(cookbook, "templates/zonecast.toml.erb"), toml)
	said := output(t, Build(t), "host", "options", "--config", toml)
	if !strings.Contains(said, "--agent-host ns1.example.net") {
		b, _ := os.ReadFile(toml) // shown only
		t.Errorf("from\n%s\nfollows\n%s", b, said)
	}
	output(t, "ruby", append([]string{"-ryaml", "-e", "ARGV.each { |f| YAML.load_file(f).size > 0 or raise f }"},
		ansible(t, "playbook.yml"), ansible(t, "roles/zonecast/tasks/main.yml"), ansible(t, "roles/zonecast/defaults/main.yml"), ansible(t, "roles/zonecast/handlers/main.yml"))...)
}

func ansible(t testing.TB, file string) string {
	t.Helper()
	return filepath.Join(Root(), "deploy", "ansible", file)
}

// TestRunitInterop has the processes with runit: they are watched, and replaced without a
// lost query.
func TestRunitInterop(t *testing.T) {
	if _, err := exec.LookPath("runsvdir"); err != nil {
		t.Skip("runit is not installed")
	}
	services := t.TempDir()
	h := newDNSHost(t, fmt.Sprintf("manager = \"runit\"\nservices = %q\ncheck-fall = 100", filepath.Join(services, "zonecast-%s")))
	for _, part := range []string{"agent", "authority"} {
		dir := filepath.Join(services, "zonecast-"+part)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		run := fmt.Sprintf("#!/bin/sh\nexec 2>>%s.log\nexec %s host exec %s --config %s\n", filepath.Join(t.TempDir(), part), Build(t), part, h.config)
		if err := os.WriteFile(filepath.Join(dir, "run"), []byte(run), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	runsvdir := exec.Command("runsvdir", services)
	runsvdir.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := runsvdir.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		runsvdir.Process.Signal(syscall.SIGHUP) // ends all services, and itself
		runsvdir.Wait()
		h.until("the end of the services", func() bool { return h.svPid("agent") == 0 && h.svPid("authority") == 0 })
	}()
	h.services = services
	h.start()
	h.until("a check", func() bool { return h.svPid("authority") != 0 })
	h.upgrade(300, 4*time.Second, func() {
		pid := h.svPid("authority")
		h.Signal(syscall.SIGHUP)
		h.until("another process of runit", func() bool { now := h.svPid("authority"); return now != 0 && now != pid })
		h.until("the replacement", func() bool {
			return strings.Contains(h.Log(), `"msg":"part replaced","part":"authority"`)
		})
	})
	h.answers("after the replacement")
	h.Stop()
	if err := h.ask(); err != nil {
		t.Errorf("runit has the authority, which does not answer after the end of run host: %v", err)
	}
}

// svPid is the process of a part that runit has.
func (h *dnsHost) svPid(part string) int {
	out, err := exec.Command("sv", "status", filepath.Join(h.services, "zonecast-"+part)).CombinedOutput()
	var dir string
	var pid int
	if n, _ := fmt.Sscanf(string(out), "run: %s (pid %d)", &dir, &pid); err != nil || n != 2 {
		return 0
	}
	return pid
}

// TestVIPGuideInterop has zonecast and BIRD read what docs/host.md gives them under "Three
// hosts behind one VIP".
func TestVIPGuideInterop(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(Root(), "docs", "host.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, guide, found := strings.Cut(string(b), "## Three hosts behind one VIP")
	guide, _, ends := strings.Cut(guide, "\n## ")
	blocks := strings.Split(guide, "```")
	if !found || !ends || len(blocks) != 5 {
		t.Fatalf("docs/host.md has no such section, or not two files in it: %d parts", len(blocks))
	}
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	options := file("zonecast.toml", strings.TrimPrefix(blocks[1], "toml"))
	said := output(t, Build(t), "host", "options", "--config", options)
	if !strings.Contains(said, "--announcer-authority 198.51.100.2:53,192.0.2.53:53") {
		t.Errorf("the parts are run as\n%s", said)
	}
	bird, err := daemon.Find("bird")
	if err != nil {
		t.Skip("bird is not installed")
	}
	output(t, bird, "-p", "-c", file("bird.conf", blocks[3]))
}
