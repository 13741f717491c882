package service

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// SignalError is the cause of a context that ended because of a signal.
type SignalError struct{ Signal os.Signal }

func (e SignalError) Error() string { return fmt.Sprintf("signal: %v", e.Signal) }

// Main calls run with a context that ends at the first SIGINT or SIGTERM and gives
// run's exit code, for os.Exit. A second signal of these two ends the process at
// once, with the code a shell gives for death by that signal: 130 for SIGINT, 143
// for SIGTERM. That is the one place outside main that exits: whoever signals twice
// is waiting for something that hangs, and asks that nothing be waited for.
//
//	func main() { os.Exit(service.Main(run)) }
func Main(run func(ctx context.Context) int) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	returned := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-returned:
				return
			case sig := <-signals:
				if n > 0 {
					fmt.Fprintf(os.Stderr, "zonecast: second signal (%v): stopped without waiting\n", sig)
					os.Exit(exitCode(sig))
				}
				cancel(SignalError{sig})
			}
		}
	}()
	defer func() { <-ended }()
	defer close(returned)
	return run(ctx)
}

// exitCode is 128 and the signal's number, as shells have it.
func exitCode(sig os.Signal) int {
	if s, ok := sig.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return 1
}

// Hangup is a task that calls fn for each SIGHUP, one at a time; signals that come
// while fn runs are one. An error of fn is the task's failure: fn itself reports a
// configuration that it refuses, and goes on with the old one.
func Hangup(name string, fn func(ctx context.Context) error) Task {
	// WaitReady: once the service is alive, SIGHUP no longer ends the process.
	return Task{Name: name, WaitReady: defaultGrace, Run: func(ctx context.Context) error {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGHUP)
		defer signal.Stop(signals)
		Ready(ctx)
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-signals:
				if err := fn(ctx); err != nil {
					return err
				}
			}
		}
	}}
}
