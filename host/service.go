package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/internal/daemon"
)

// service is a part that a service manager has.
type service struct {
	cfg  Config
	deps Deps
	part Part
}

// commandTime bounds a command of a manager; sv and systemctl wait for what they do.
const commandTime = time.Minute

// call runs a command of the manager.
func (s *service) call(ctx context.Context, args ...string) (string, error) {
	name := map[string]string{Runit: "sv", Systemd: "systemctl"}[s.cfg.Manager]
	path, err := daemon.Find(name)
	if err != nil {
		return "", fmt.Errorf("%w: manager is %s, which is not installed here", err, s.cfg.Manager)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// run has nothing to do: the manager keeps the process, also when this one ends.
func (s *service) run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// svRun is how sv says that a service runs: "run: DIR: (pid 123) 45s; run: log: …".
var svRun = regexp.MustCompile(`^run: .*?: \(pid (\d+)\) (\d+)s`)

func (s *service) state(ctx context.Context) (pid int, since time.Time, why string) {
	name := s.cfg.Service(s.part.Name)
	if s.cfg.Manager == Runit {
		out, err := s.call(ctx, "status", name)
		m := svRun.FindStringSubmatch(out)
		if err != nil || m == nil {
			return 0, since, strings.TrimSpace(out)
		}
		pid, _ := strconv.Atoi(m[1]) // the expression says that they are numbers
		age, _ := strconv.Atoi(m[2])
		return pid, time.Now().Add(-time.Duration(age) * time.Second), ""
	}
	out, err := s.call(ctx, "show", "--property=MainPID,ActiveState,SubState,Result", name)
	if err != nil {
		return 0, since, err.Error()
	}
	said := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[key] = value
	}
	pid, err = strconv.Atoi(said["MainPID"])
	if err != nil || pid == 0 || said["ActiveState"] != "active" {
		return 0, since, fmt.Sprintf("unit %s is %s (%s), its result %s", name, said["ActiveState"], said["SubState"], said["Result"])
	}
	if i, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		since = i.ModTime() // when it was started
	}
	return pid, since, ""
}

func (s *service) restart(ctx context.Context) error {
	verb := []string{"restart"}
	if s.cfg.Manager == Runit {
		verb = []string{"-w", "5", "force-restart"} // by force after 5 s
	}
	_, err := s.call(ctx, append(verb, s.cfg.Service(s.part.Name))...)
	return err
}

// replace puts a process of our own between the one that runs and the next of the
// manager: it takes over, the first ends, the manager starts another, which takes over
// from ours.
//
//	first    ──────┐ ends
//	ours       └───┴──────┐ ends
//	next           started └───┴────────
func (s *service) replace(ctx context.Context, p Part) error {
	if !s.part.HandsOver {
		return s.restart(ctx)
	}
	first, _, _ := s.state(ctx)
	if first == 0 {
		return nil // its next start, which is the manager's, is as p says
	}
	ours := exec.Command(s.deps.Program, append(p.Args[:len(p.Args):len(p.Args)], "--http", "")...)
	ours.Stdout, ours.Stderr = s.deps.Out, s.deps.Out
	ours.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if i, err := os.Stat(fmt.Sprintf("/proc/%d", first)); err == nil && os.Getuid() == 0 {
		// Sockets are handed over between processes of one user.
		if of, ok := i.Sys().(*syscall.Stat_t); ok {
			ours.SysProcAttr.Credential = &syscall.Credential{Uid: of.Uid, Gid: of.Gid}
		}
	}
	if err := ours.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- ours.Wait() }()
	late := time.NewTimer(s.cfg.ReplaceWithin)
	defer late.Stop()
	var err error
	select {
	case err = <-ended:
		if next, _, _ := s.state(ctx); err == nil && next != 0 && next != first {
			return nil
		}
		return errors.Join(errors.New("the process between ended before the manager had started another"), err)
	case <-late.C:
		err = fmt.Errorf("the manager's process did not take over within %s", s.cfg.ReplaceWithin)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if now, _, _ := s.state(context.WithoutCancel(ctx)); now != 0 && now == first {
		// It never took over, so it is in nobody's way, and of no use.
		_ = ours.Process.Signal(syscall.SIGTERM)
		<-ended
	}
	return err
}

// next implements manager: the manager's next process reads the options itself.
func (s *service) next(Part) {}

// outdated implements manager: whoever upgrades tells the manager.
func (s *service) outdated(context.Context) bool { return false }
