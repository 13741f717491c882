package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// errReplaced is the end of a process that was asked for.
var errReplaced = errors.New("ended, for another one to be started")

// ErrNotRunning is what a replacement of nothing gives.
var ErrNotRunning = errors.New("the program is not running")

// replacement is a wish for another process in the place of the one that runs.
type replacement struct {
	args   []string      // of the successor; nil: those of the old one
	within time.Duration // for the hand-over; zero: end the old one first
	grace  time.Duration // between SIGTERM and SIGKILL for the old one
	done   chan error    // has room for one
}

// Replace has another process take the place of the one that runs, such as one of a
// newer file. A program that HandsOver is asked to nothing: its successor is started
// beside it, takes over, and the old one ends by itself; one that does not within the
// time, or dies over it, is ended again, the old one goes on, and the error says so.
// Another program is ended and then started anew. What runs if Run does not is not
// touched. args are the successor's, and of those after it, also where nothing runs and the
// error is ErrNotRunning; nil: as before.
func (d *Daemon) Replace(ctx context.Context, args []string, within time.Duration) error {
	r := &replacement{args: args, grace: d.cfg.Grace, done: make(chan error, 1)}
	if d.cfg.HandsOver {
		r.within = within
	}
	return d.ask(ctx, r)
}

// Next has the next start use args; what runs goes on.
func (d *Daemon) Next(args []string) { d.setArgs(args) }

// Restart ends the process - by force when it does not end in grace - and starts another:
// for one that hangs.
func (d *Daemon) Restart(ctx context.Context, grace time.Duration) error {
	return d.ask(ctx, &replacement{grace: grace, done: make(chan error, 1)})
}

func (d *Daemon) ask(ctx context.Context, r *replacement) error {
	for {
		now, news := d.State()
		if now.Pid == 0 {
			if r.args != nil {
				d.setArgs(r.args)
			}
			return ErrNotRunning
		}
		select {
		case d.replaces <- r:
			select {
			case err := <-r.done:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		case <-news: // it may have ended
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replace does what Replace says. Without an error next is the process that runs now, or
// none, for the caller to start one. With one the old process goes on, unless next says
// that there was one, which is gone with it.
func (d *Daemon) replace(ctx context.Context, r *replacement, ended <-chan error, pid int) (next child, err error) {
	if r.args != nil {
		before := d.setArgs(r.args)
		defer func() {
			if err != nil && next.pid == 0 { // the old one goes on
				d.setArgs(before)
			}
		}()
	}
	if r.within <= 0 {
		d.end(ended, pid, r.grace)
		return child{}, nil
	}
	next, err = d.start()
	if err != nil {
		return child{}, err
	}
	late := time.NewTimer(r.within)
	defer late.Stop()
	select {
	case <-ended:
		d.cfg.Log.Info("program replaced", "file", d.cfg.Path, "pid", next.pid)
		return next, nil
	case err = <-next.ended:
		return child{}, fmt.Errorf("replace pid %d: the successor ended: %w", pid, d.lastWords(err))
	case <-late.C:
		err = fmt.Errorf("replace pid %d: the successor did not take over within %s", pid, r.within)
	case <-ctx.Done():
		err = ctx.Err()
	}
	// It may have taken over in this moment; then it is the one that stays.
	select {
	case <-ended:
		return next, nil
	default:
	}
	d.end(next.ended, next.pid, d.cfg.Grace)
	select {
	case <-ended:
		return next, fmt.Errorf("%w; it ended, and so did pid %d", err, pid)
	default:
	}
	return child{}, err
}

// Outdated tells whether the process runs another file than the one that Path names now.
func (s State) Outdated(path string) bool {
	if s.Pid == 0 {
		return false
	}
	runs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", s.Pid))
	if err != nil {
		return false // it is gone, or not for us to know
	}
	there, err := os.Stat(path)
	return err == nil && !os.SameFile(runs, there)
}
