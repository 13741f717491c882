package service_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/service"
)

// childVariable makes the test binary run the program under test instead of tests.
const childVariable = "ZONECAST_TEST_CHILD"

// exit ends the child.
func exit(code int) { os.Exit(code) }

// child is a program built on Main: it says what happens to it, stops when told and,
// if so named, hangs then.
func child() (code int, ok bool) {
	how := os.Getenv(childVariable)
	if how == "" {
		return 0, false
	}
	return service.Main(func(ctx context.Context) int {
		s, err := service.New(service.Config{Name: "child"})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		s.Add(service.Hangup("reload", func(context.Context) error { fmt.Println("reloaded"); return nil }))
		s.Add(service.Task{Name: "work", Run: func(ctx context.Context) error {
			fmt.Println("running")
			<-ctx.Done()
			fmt.Println("stopping")
			if how == "hang" {
				<-time.After(time.Minute)
			}
			return nil
		}})
		if err := s.Run(ctx); err != nil {
			return 1
		}
		var sig service.SignalError
		if !errors.As(context.Cause(ctx), &sig) {
			return 2
		}
		fmt.Println(sig)
		return 0
	}), true
}

// run starts the child and gives its lines, a way to signal it and its exit code.
func run(t *testing.T, how string) (line func(want string), signal func(syscall.Signal), wait func() int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // the child must be gone by then
	t.Cleanup(cancel)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), childVariable+"="+how)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	line = func(want string) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the child ended, want it to say %q", want)
		}
		if lines.Text() != want {
			t.Fatalf("the child says %q, want %q", lines.Text(), want)
		}
	}
	signal = func(sig syscall.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	wait = func() int {
		t.Helper()
		for lines.Scan() {
			t.Errorf("unexpected line %q", lines.Text())
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode()
	}
	return line, signal, wait
}

func TestFirstSignalStops(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		line, signal, wait := run(t, "obey")
		line("running")
		signal(sig)
		line("stopping")
		line("signal: " + sig.String())
		if got := wait(); got != 0 {
			t.Errorf("%v: exit code %d, want 0", sig, got)
		}
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		line, signal, wait := run(t, "hang")
		line("running")
		signal(syscall.SIGTERM)
		line("stopping")
		start := time.Now()
		signal(sig)
		if got := wait(); got != want {
			t.Errorf("%v: exit code %d, want %d", sig, got, want)
		}
		if took := time.Since(start); took > 9*time.Second { // the task's grace is 10s
			t.Errorf("%v: took %v", sig, took)
		}
	}
}

func TestHangup(t *testing.T) {
	line, signal, wait := run(t, "obey")
	line("running")
	for range 3 {
		signal(syscall.SIGHUP)
		line("reloaded")
	}
	signal(syscall.SIGTERM)
	line("stopping")
	line("signal: terminated")
	if got := wait(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
}
