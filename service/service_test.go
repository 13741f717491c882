package service_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/service"
)

func TestMain(m *testing.M) {
	if code, ok := child(); ok {
		exit(code)
	}
	goleak.VerifyTestMain(m)
}

// journal collects what tasks did, in order.
type journal struct {
	mu    sync.Mutex // guards below
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func newService(t *testing.T, cfg service.Config) *service.Service {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	s, err := service.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// metric is the value of a counter or gauge, or the count of a histogram, summed over
// the series that have the labels (name=value).
func metric(t *testing.T, g prometheus.Gatherer, name string, labels ...string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetName()+"="+l.GetValue()] = true
			}
			if slices.ContainsFunc(labels, func(l string) bool { return !have[l] }) {
				continue
			}
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		t.Fatalf("no metric %s with %v", name, labels)
	}
	return sum
}

func TestStartsInOrderStopsInReverse(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		var j journal
		s := newService(t, service.Config{})
		task := func(name string) service.Task {
			return service.Task{Name: name, WaitReady: time.Minute, Run: func(ctx context.Context) error {
				j.add("%s starts", name)
				time.Sleep(time.Second)
				j.add("%s is ready", name)
				service.Ready(ctx)
				<-ctx.Done()
				j.add("%s stops", name)
				time.Sleep(time.Second)
				j.add("%s is gone", name)
				return ctx.Err()
			}}
		}
		s.Add(task("a"), task("b"))
		s.Add(task("c"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()

		time.Sleep(2500 * time.Millisecond)
		if got := s.State(); got != service.Starting {
			t.Errorf("before all are ready: %s, want %s", got, service.Starting)
		}
		time.Sleep(time.Second)
		if got := s.State(); got != service.Alive {
			t.Errorf("after all are ready: %s, want %s", got, service.Alive)
		}
		cancel()
		time.Sleep(time.Millisecond)
		if got := s.State(); got != service.Stopping {
			t.Errorf("while they stop: %s, want %s", got, service.Stopping)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := s.State(); got != service.Stopped {
			t.Errorf("at the end: %s, want %s", got, service.Stopped)
		}
		want := []string{
			"a starts", "a is ready", "b starts", "b is ready", "c starts", "c is ready",
			"c stops", "c is gone", "b stops", "b is gone", "a stops", "a is gone",
		}
		if diff := cmp.Diff(want, j.all()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

// idle is a task that does nothing and tells j when it stops.
func idle(name string, j *journal) service.Task {
	return service.Task{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		if j != nil {
			j.add("%s stops", name)
		}
		return nil
	}}
}

func TestAFailureEndsEverything(t *testing.T) {
	broken := errors.New("broken")
	tests := map[string]struct {
		run  func(context.Context) error
		want []string // in the error
	}{
		"error":  {func(context.Context) error { return broken }, []string{"service test: task bad: broken"}},
		"nil":    {func(context.Context) error { return nil }, []string{"task bad: returned before it was told to stop"}},
		"panic":  {func(context.Context) error { panic(broken) }, []string{"task bad: panic: broken", "service_test.go:"}},
		"goexit": {func(context.Context) error { runtime.Goexit(); return nil }, []string{"task bad: ended its goroutine by runtime.Goexit"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubbletest.Run(t, func(t *testing.T) {
				var j journal
				s := newService(t, service.Config{})
				s.Add(idle("first", &j), idle("second", &j), service.Task{Name: "bad", Run: func(ctx context.Context) error {
					time.Sleep(time.Minute)
					return tt.run(ctx)
				}}, idle("last", &j))
				err := s.Run(t.Context())
				if err == nil {
					t.Fatal("the service ended without an error")
				}
				for _, want := range tt.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q, want %q in it", err, want)
					}
				}
				if name == "panic" && !errors.Is(err, broken) {
					t.Errorf("the panic's error is not in %v", err)
				}
				if diff := cmp.Diff([]string{"last stops", "second stops", "first stops"}, j.all()); diff != "" {
					t.Errorf("order (-want +got):\n%s", diff)
				}
				if got := s.Status().Tasks[2].State; got != service.TaskFailed {
					t.Errorf("state of the task %s, want %s", got, service.TaskFailed)
				}
			})
		})
	}
}

func TestRestartPolicy(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		s := newService(t, service.Config{Registry: reg})
		var starts []time.Duration
		began := time.Now()
		s.Add(service.Task{
			Name: "flaky", Restart: service.Restart{Min: time.Second, Max: 4 * time.Second, Limit: 4},
			Run: func(ctx context.Context) error {
				starts = append(starts, time.Since(began))
				if len(starts) == 3 {
					panic("third")
				}
				return errors.New("flaky")
			},
		})
		err := s.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "task flaky: flaky") {
			t.Errorf("error %v, want the task's", err)
		}
		if len(starts) != 5 {
			t.Fatalf("%d runs, want 5: one and 4 restarts", len(starts))
		}
		for i, longest := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
			if pause := starts[i+1] - starts[i]; pause > longest || pause < longest*3/4 {
				t.Errorf("pause %d was %v, want from %v to %v", i+1, pause, longest*3/4, longest)
			}
		}
		if got := metric(t, reg, "zonecast_task_restarts_total", "task=flaky", "service=test"); got != 4 {
			t.Errorf("restarts %v, want 4", got)
		}
	})
}

// A task that fails and then holds out raises a warning and clears it.
func TestRestartWarns(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		s := newService(t, service.Config{})
		runs := 0
		s.Add(service.Task{Name: "once-bad", Restart: service.Restart{Min: time.Second}, Run: func(ctx context.Context) error {
			if runs++; runs == 1 {
				return errors.New("bad start")
			}
			<-ctx.Done()
			return nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(500 * time.Millisecond)
		st := s.Status()
		if st.Status != service.Warned || len(st.Warnings) != 1 || !strings.Contains(st.Details, "bad start") {
			t.Errorf("in the pause: %+v", st)
		}
		if st.Tasks[0].State != service.TaskPaused || st.Tasks[0].Restarts != 1 {
			t.Errorf("in the pause: %+v", st.Tasks[0])
		}
		time.Sleep(2 * time.Minute)
		if st := s.Status(); st.Status != service.Alive || len(st.Warnings) != 0 || st.Tasks[0].State != service.TaskRunning {
			t.Errorf("later: %+v", st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestStuckTaskDoesNotHoldUpTheOthers(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		var j journal
		release := make(chan struct{})
		s := newService(t, service.Config{})
		s.Add(idle("first", &j), service.Task{Name: "deaf", Grace: 3 * time.Second, Run: func(context.Context) error {
			<-release
			return nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := s.Run(ctx)
		// The service was told to stop before anything ran: only what started stops.
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		if err != nil {
			t.Error(err)
		}

		s = newService(t, service.Config{})
		s.Add(idle("first", &j), service.Task{Name: "deaf", Grace: 3 * time.Second, Run: func(context.Context) error {
			<-release
			return nil
		}})
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		err = s.Run(ctx)
		if err == nil || !strings.Contains(err.Error(), "task deaf: still running 3s after it was told to stop") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("took %v, want 4s", took)
		}
		if diff := cmp.Diff([]string{"first stops", "first stops"}, j.all()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if got := s.Status().Tasks[1].State; got != service.TaskStuck {
			t.Errorf("state %s, want %s", got, service.TaskStuck)
		}
		close(release)
	})
}

func TestReadyInTimeOrNotAtAll(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		var j journal
		s := newService(t, service.Config{})
		slow := idle("slow", &j)
		slow.WaitReady = 5 * time.Second
		s.Add(slow, idle("never", &j))
		err := s.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "task slow: not ready 5s after its start") {
			t.Errorf("error %v", err)
		}
		if diff := cmp.Diff([]string{"slow stops"}, j.all()); diff != "" {
			t.Errorf("stops (-want +got):\n%s", diff)
		}
	})
}

func TestOnceTasks(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		s := newService(t, service.Config{})
		n := 0
		for _, name := range []string{"a", "b"} {
			s.Add(service.Task{Name: name, Once: true, WaitReady: time.Second, Run: func(context.Context) error { n++; return nil }})
		}
		if err := s.Run(t.Context()); err != nil || n != 2 {
			t.Errorf("%d tasks ran, error %v; want 2 and none", n, err)
		}
	})
}

func TestStopErrorsAreJoined(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		s := newService(t, service.Config{})
		for _, name := range []string{"a", "b"} {
			s.Add(service.Task{Name: name, Run: func(ctx context.Context) error {
				<-ctx.Done()
				return errors.New(name + " lost data")
			}})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.Run(ctx)
		for _, want := range []string{"task a: stop: a lost data", "task b: stop: b lost data"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q in it", err, want)
			}
		}
	})
}

func TestMistakes(t *testing.T) {
	ok := func(context.Context) error { return nil }
	s := newService(t, service.Config{})
	s.Add(service.Task{Name: "twice", Run: ok, Once: true}, service.Task{Name: "twice", Run: ok}, service.Task{Run: ok}, service.Task{Name: "empty"})
	err := s.Run(t.Context())
	for _, want := range []string{`task "twice": the name is taken`, `task "": no name`, `task "empty": nothing to run`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ran already") {
		t.Errorf("second Run: %v", err)
	}
	if _, err := service.New(service.Config{}); err == nil {
		t.Error("a service without a name was made")
	}
}

func TestWarnings(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		s := newService(t, service.Config{Registry: reg})
		s.Add(idle("a", nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		s.Warn("zone/example.net", "line 3: no SOA")
		s.Warn("disk", "90 % full")
		time.Sleep(time.Second)
		s.Warn("disk", "95 % full")
		st := s.Status()
		if st.Status != service.Warned || st.Details != "disk: 95 % full; zone/example.net: line 3: no SOA" {
			t.Errorf("status %s, details %q", st.Status, st.Details)
		}
		if age := time.Since(st.Warnings[0].Since); age != time.Second {
			t.Errorf("a new text made the warning new: age %v", age)
		}
		if got := metric(t, reg, "zonecast_service_warnings"); got != 2 {
			t.Errorf("metric %v, want 2", got)
		}
		if got := metric(t, reg, "zonecast_service_status", "status=WARNING"); got != 1 {
			t.Errorf("metric %v, want 1", got)
		}
		s.ClearWarning("disk")
		s.ClearWarning("zone/example.net")
		s.ClearWarning("unknown")
		if got := s.State(); got != service.Alive {
			t.Errorf("state %s, want %s", got, service.Alive)
		}
		for i := range 2000 {
			s.Warn(fmt.Sprint(i), "many")
		}
		if got := len(s.Status().Warnings); got != 1000 {
			t.Errorf("%d warnings kept, want 1000", got)
		}
		if got := metric(t, reg, "zonecast_service_warnings"); got != 2000 {
			t.Errorf("metric %v, want 2000", got)
		}
		cancel()
		<-done
	})
}

// Two services in one process, as in zonecast up, share a registry.
func TestSharedRegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	for _, name := range []string{"one", "two"} {
		s := newService(t, service.Config{Name: name, Registry: reg, Version: "v1"})
		s.Add(service.Periodic("tick", time.Second, func(context.Context) error { return nil }))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		if got := metric(t, reg, "zonecast_build_info", "service="+name, "version=v1"); got != 1 {
			t.Errorf("build info %v, want 1", got)
		}
	}
	if _, err := service.New(service.Config{Name: "one", Registry: reg}); err == nil {
		t.Error("a second service of the same name was made")
	}
}

func TestNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	env := map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": "20000"}
	s := newService(t, service.Config{Notify: service.NotifierFrom(func(k string) string { return env[k] })})
	s.Add(idle("a", nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	receive := func() string {
		b := make([]byte, 100)
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := receive(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cancel()
	for {
		got := receive()
		if got == "STOPPING=1" {
			break
		}
		if got != "WATCHDOG=1" {
			t.Fatalf("got %q, want STOPPING=1", got)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := service.NotifierFrom(func(string) string { return "" }); n != nil {
		t.Error("a notifier without a socket")
	}
}
