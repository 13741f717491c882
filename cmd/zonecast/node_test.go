package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/service"
)

// What troubles a stage is a warning of its process, as long as it lasts.
func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
