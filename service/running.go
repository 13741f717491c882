package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// TaskState is where a task is in its life.
//
//	waiting ─► starting ─► running ─► stopping ─► stopped
//	               ▲          │  └──► done (Once)
//	               └─ paused ◄┴─────► failed      stuck: did not stop in time
type TaskState string

// The states of a task.
const (
	TaskWaiting  TaskState = "waiting"  // for the tasks before it
	TaskStarting TaskState = "starting" // runs, but did not call Ready, which WaitReady asks for
	TaskRunning  TaskState = "running"
	TaskPaused   TaskState = "paused" // failed, and waits to be run again
	TaskStopping TaskState = "stopping"
	TaskStopped  TaskState = "stopped"
	TaskDone     TaskState = "done"
	TaskFailed   TaskState = "failed"
	TaskStuck    TaskState = "stuck"
)

// running is a task in a service.
type running struct {
	Task
	svc    *Service
	cancel context.CancelFunc // nil before start
	ready  chan struct{}      // closed by the first Ready
	done   chan struct{}      // closed when the goroutine ends
	once   sync.Once          // of ready

	mu       sync.Mutex // guards below
	state    TaskState
	since    time.Time // of state
	restarts int
	last     error // newest failure
	exit     error // what Run gave after it was told to stop
}

func (r *running) setState(st TaskState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.since = st, time.Now()
}

// start runs the task in its own goroutine, which stop waits for. failed has room
// for the one error of this task.
func (r *running) start(ctx context.Context, failed chan<- error) {
	ctx = context.WithValue(ctx, readyKey{}, r.isReady)
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		defer close(r.done)
		returned := false
		defer func() { // runtime.Goexit in the task ends this goroutine, too
			if !returned {
				r.fail(errors.New("ended its goroutine by runtime.Goexit"), failed)
			}
		}()
		r.loop(ctx, failed)
		returned = true
	}()
}

// isReady is what Ready calls.
func (r *running) isReady() {
	r.once.Do(func() { close(r.ready) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == TaskStarting {
		r.state, r.since = TaskRunning, time.Now()
	}
}

// loop runs the task again and again as its policy says.
func (r *running) loop(ctx context.Context, failed chan<- error) {
	pauses := newBackoff(r.Restart.Min, r.Restart.Max)
	warning := "task/" + r.Name
	for {
		r.setState(TaskRunning)
		if r.WaitReady > 0 {
			r.setState(TaskStarting)
		}
		start := time.Now()
		// A task that has held out for the longest pause is well again.
		well := time.AfterFunc(max(pauses.max, time.Second), func() { r.svc.ClearWarning(warning) })
		err := protect(func() error { return r.Run(ctx) })
		well.Stop()

		if ctx.Err() != nil {
			r.mu.Lock()
			if !errors.Is(err, context.Canceled) {
				r.exit = err
			}
			r.mu.Unlock()
			r.setState(TaskStopped)
			return
		}
		if err == nil && r.Once {
			r.svc.ClearWarning(warning)
			r.setState(TaskDone)
			r.svc.log.Info("task done", "task", r.Name)
			return
		}
		if err == nil {
			err = errReturned
		}
		if time.Since(start) > pauses.max {
			pauses.reset()
		}
		if r.Restart.Min <= 0 || r.Restart.Limit > 0 && pauses.failures >= r.Restart.Limit {
			r.fail(err, failed)
			return
		}
		pause := pauses.next()
		r.mu.Lock()
		r.last, r.restarts = err, r.restarts+1
		r.mu.Unlock()
		r.setState(TaskPaused)
		r.svc.restarts.WithLabelValues(r.Name).Inc()
		r.svc.Warn(warning, fmt.Sprintf("failed and is run again in %v: %v", pause.Round(time.Millisecond), err))
		if sleep(ctx, pause) != nil {
			r.setState(TaskStopped)
			return
		}
	}
}

// fail ends the task and so the service.
func (r *running) fail(err error, failed chan<- error) {
	err = fmt.Errorf("task %s: %w", r.Name, err)
	r.mu.Lock()
	r.last = err
	r.mu.Unlock()
	r.setState(TaskFailed)
	r.svc.log.Error("task failed", "task", r.Name, "error", err)
	failed <- err
}

// stop ends the task's context and waits for it, at most Grace.
func (r *running) stop() error {
	r.mu.Lock()
	if r.state == TaskStarting || r.state == TaskRunning { // a failed task may not have closed done yet
		r.state, r.since = TaskStopping, time.Now()
	}
	r.mu.Unlock()
	start := time.Now()
	r.cancel()
	late := time.NewTimer(r.Grace)
	defer late.Stop()
	select {
	case <-r.done:
	case <-late.C:
		r.setState(TaskStuck)
		r.svc.log.Error("task stuck", "task", r.Name, "grace", r.Grace)
		return fmt.Errorf("task %s: still running %v after it was told to stop", r.Name, r.Grace)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.svc.log.Debug("task stopped", "task", r.Name, "took", time.Since(start))
	if r.exit != nil {
		return fmt.Errorf("task %s: stop: %w", r.Name, r.exit)
	}
	return nil
}
