package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/service"
)

// What troubles a stage is a warning of its process, as long as it lasts.
func TestWarnings(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		svc, err := service.New(service.Config{Name: "presenter", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		n := &node{svc: svc}
		var held atomic.Pointer[string]
		none, some := "", "held: no claims"
		held.Store(&none)
		n.warn("presenter", func() []string { return []string{"", *held.Load()} })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- svc.Run(ctx) }()
		for _, want := range []string{none, some, none} {
			held.Store(&want)
			time.Sleep(2500 * time.Millisecond)
			got := ""
			for _, w := range svc.Status().Warnings {
				got += w.Key + ": " + w.Text
			}
			if want != "" {
				want = "presenter: " + want
			}
			if got != want {
				t.Errorf("warnings are %q, expected %q", got, want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What is told to others has no password.
func TestStorePublic(t *testing.T) {
	for in, want := range map[string]string{
		"zookeeper://al:s@c:ret@192.0.2.1:2181,192.0.2.2:2181/a": "zookeeper://192.0.2.1:2181,192.0.2.2:2181/a",
		"etcd://192.0.2.1:2379":                                  "etcd://192.0.2.1:2379",
		"etcd+unix:///run/store":                                 "etcd+unix:///run/store",
		"embedded":                                               "embedded",
	} {
		if got := (&storeOptions{Store: in}).public(); got != want {
			t.Errorf("%s is told as %s, expected %s", in, got, want)
		}
	}
}

// A file of credentials is one line.
func TestReadAuth(t *testing.T) {
	for text, want := range map[string]string{
		"alice:secret\n": "alice:secret", "alice:se:cret": "alice:se:cret",
		"": "", "alice\n": "", ":x": "", "alice:\n": "", "alice:a\nbob:b\n": "", "a:" + strings.Repeat("x", maxAuth): "",
	} {
		file := filepath.Join(t.TempDir(), "auth")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readAuth(file)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.30q: %q, %v, expected %q", text, got, err, want)
		}
	}
	if _, err := readAuth(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there: no error")
	}
}
