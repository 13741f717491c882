package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main(map[string]func() (Handler, error){
		"echo": func() (Handler, error) { return answer, nil },
		"none": func() (Handler, error) { return nil, errors.New("no handler today") },
	})
	os.Exit(m.Run())
}

// answer does what its request says.
func answer(request []byte, note func([]byte)) []byte {
	switch word, rest, _ := strings.Cut(string(request), " "); word {
	case "echo":
		note([]byte("first"))
		note([]byte("second"))
		return []byte(rest)
	case "memory":
		b := []byte("x")
		for {
			b = append(b, b...)
		}
	case "garbage":
		n := 0
		for range 2000 { // 2 GiB, of which nothing is kept
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 1 << 12 {
				b[i] = 1
			}
			n += len(b)
		}
		return fmt.Append(nil, n)
	case "loop":
		for {
			time.Sleep(time.Hour)
		}
	case "panic":
		panic("on purpose")
	case "large":
		return make([]byte, 2<<20)
	case "write":
		return fmt.Append(nil, os.WriteFile(rest, []byte("x"), 0o644))
	case "environment":
		return []byte(strings.Join(os.Environ(), " "))
	}
	return nil
}

func start(t *testing.T, name string) *Child {
	t.Helper()
	c, err := Start(name, Limits{Memory: 256 << 20, Time: 20 * time.Second, Answer: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCalls(t *testing.T) {
	c := start(t, "echo")
	for i := range 3 {
		var notes []string
		want := fmt.Sprintf("hello %d", i)
		got, err := c.Call(t.Context(), []byte("echo "+want), func(b []byte) { notes = append(notes, string(b)) })
		if err != nil || string(got) != want || fmt.Sprint(notes) != "[first second]" {
			t.Fatalf("%q, %v, %v", got, notes, err)
		}
	}
	if got, err := c.Call(t.Context(), []byte("garbage"), nil); err != nil || string(got) != fmt.Sprint(2000<<20) {
		t.Errorf("garbage: %q, %v: what is not kept should not count", got, err)
	}
	if got, err := c.Call(t.Context(), []byte("environment"), nil); err != nil || string(got) != "GOTRACEBACK=single" {
		t.Errorf("environment: %q, %v", got, err)
	}
	file := t.TempDir() + "/file"
	got, err := c.Call(t.Context(), []byte("write "+file), nil)
	if b, _ := os.ReadFile(file); err != nil || len(b) > 0 || string(got) == "<nil>" {
		t.Errorf("the child writes files: %q, %v", got, err)
	}
}

// TestDeaths: what ends a child is said, the parent lives, and a dead child stays dead.
func TestDeaths(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, x := range []struct {
		request string
		ctx     context.Context
		is      error
		want    string
	}{
		{"memory", t.Context(), ErrMemory, "needs more memory"},
		{"loop", t.Context(), ErrTime, "takes more time"},
		{"loop", canceled, context.Canceled, "context canceled"},
		{"panic", t.Context(), nil, "panic: on purpose"},
		{"large", t.Context(), nil, "message of 2097152 octets, at most 1048576"},
	} {
		c := start(t, "echo")
		if x.is == ErrTime {
			c.limits.Time = 200 * time.Millisecond
		}
		began := time.Now()
		_, err := c.Call(x.ctx, []byte(x.request), nil)
		if err == nil || !strings.Contains(err.Error(), x.want) || x.is != nil && !errors.Is(err, x.is) {
			t.Errorf("%s: error is %v, want %s", x.request, err, x.want)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%s: took %v", x.request, took)
		}
		if c.Dead() == nil {
			t.Errorf("%s: the child lives", x.request)
		}
		if _, err := c.Call(t.Context(), []byte("echo x"), nil); err == nil {
			t.Errorf("%s: a dead child answers", x.request)
		}
		if c.cmd.ProcessState == nil {
			t.Errorf("%s: nobody waited for the child", x.request)
		}
	}
	c := start(t, "none")
	if _, err := c.Call(t.Context(), []byte("echo x"), nil); err == nil || !strings.Contains(err.Error(), "no handler today") {
		t.Errorf("error is %v, want what the child said", err)
	}
}

// TestKilled: a child that somebody kills is an error, not a hang.
func TestKilled(t *testing.T) {
	c := start(t, "echo")
	time.AfterFunc(50*time.Millisecond, func() { syscall.Kill(c.cmd.Process.Pid, syscall.SIGKILL) })
	if _, err := c.Call(t.Context(), []byte("loop"), nil); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("error is %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	if err := writeFrame(&b, kindAnswer, []byte("hello")); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{'a', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for {
			kind, b, err := readFrame(r, 1<<10)
			if err != nil {
				return
			}
			var again bytes.Buffer
			if err := writeFrame(&again, kind, b); err != nil || len(b) > 1<<10 {
				t.Fatal(err, len(b))
			}
		}
	})
}
