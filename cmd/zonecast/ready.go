package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// lockDir makes dir and takes it for this process, so that two never share it.
func lockDir(dir string) (unlock func() error, err error) {
	const advice = "--dir must be a directory that can be written"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, hinted{err, advice}
	}
	path := dir + "/lock"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, hinted{err, advice}
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		who := make([]byte, 20)
		k, _ := f.ReadAt(who, 0) // the holder writes its process id; without it the message is shorter
		f.Close()
		return nil, hinted{fmt.Errorf("directory %s is in use by another zonecast (process %s)", dir, strings.TrimSpace(string(who[:k]))), "stop that one first, or give another --dir"}
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	return f.Close, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// everywhere waits until all that the sources have now is answered by every host of
// this process.
func (u *up) everywhere(ctx context.Context, n *node, bar *progress) (*controlapi.Arrival, error) {
	for _, first := range []<-chan struct{}{u.update.files.Ready(), u.fleetReady()} {
		if err := waitReady(ctx, first, func() { u.showImport(ctx, n, bar) }); err != nil {
			return nil, err
		}
	}
	c, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	last := &controlapi.Arrival{} // stays when there is nothing to answer yet
	type goal struct{ kind, prefix string }
	carriers, err := u.carriers()
	if err != nil || carriers == 0 {
		return last, err
	}
	goals := []goal{{"servers", tree.Servers}, {"claims", tree.Claims}}
	if pin, err := c.Control.Pinned(ctx); err != nil {
		return nil, err
	} else if pin.Version > 0 { // of what is claimed now only overrides are answered
		goals = []goal{{"override", tree.Claims}}
	}
	for _, goal := range goals {
		revision, err := newest(ctx, n.store, goal.prefix)
		if err != nil {
			return nil, err
		}
		if revision == 0 {
			continue // nothing of the kind: no version will come of it
		}
		for {
			const turn = 500 * time.Millisecond // between two looks at the bar
			last, err = c.Control.Wait(ctx, int64(revision), goal.kind, u.api.control.Dataset, int32(turn.Milliseconds()))
			if ctx.Err() != nil || err != nil {
				return nil, errors.Join(ctx.Err(), err)
			}
			bar.set(int(last.Hosts), carriers)
			if last.Done && int(last.Hosts) >= carriers {
				break
			}
			if last.Done { // fewer hosts than there will be: the wait did not wait
				if err := pause(ctx, 10*time.Millisecond); err != nil {
					return nil, err
				}
			}
		}
	}
	return last, nil
}

// carriers is how many hosts here carry the dataset that control speaks of, as they remember.
func (u *up) carriers() (n int, err error) {
	for _, h := range u.hosts {
		all, err := datasets.ReadCarried(u.path("hosts", h.Name, "journal"), u.present.Dataset)
		if err != nil {
			return 0, err
		}
		if slices.Contains(all, u.api.control.Dataset) {
			n++
		}
	}
	return n, nil
}

func (u *up) fleetReady() <-chan struct{} {
	if u.api.files == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return u.api.files.Ready()
}

// dial connects to the API of this process, which is being started.
func (u *up) dial(ctx context.Context) (*api.Client, error) {
	for {
		c, err := api.Dial(ctx, u.api.Listen)
		if err == nil {
			return c, nil
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return nil, err
		}
	}
}

// newest is the revision of the last change below prefix that is still there, but for freshness
// records: they come by themselves, and say nothing of whether there is something to answer.
func newest(ctx context.Context, st store.Store, prefix string) (store.Revision, error) {
	nodes, _, err := st.List(ctx, prefix)
	var last store.Revision
	for _, x := range nodes {
		if !strings.HasPrefix(x.Path, tree.ClaimsPrefix(freshness.Source)) {
			last = max(last, x.Modified)
		}
	}
	return last, err
}

func waitReady(ctx context.Context, ready <-chan struct{}, meanwhile func()) error {
	for {
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(redraw):
			meanwhile()
		}
	}
}

// showImport says how many sources are in the store yet.
func (u *up) showImport(ctx context.Context, n *node, bar *progress) {
	nodes, _, err := n.store.List(ctx, tree.Sources)
	if err != nil {
		return // the bar is decoration: the wait goes on
	}
	total := 0
	if u.update.Dir != "" {
		entries, _ := os.ReadDir(u.update.Dir)
		total = len(entries)
	}
	bar.label = "importing sources"
	bar.set(len(nodes), total)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// writeReady tells people what runs, and what to try.
func (u *up) writeReady(w io.Writer, version int64, took time.Duration) {
	if version == 0 {
		fmt.Fprintf(w, "ready: %s up after %.1f s; there are no records yet: --zones, --fleet, `zonecast import` and `zonecast register` bring some\n",
			count(len(u.hosts), "host"), took.Seconds())
	} else {
		fmt.Fprintf(w, "ready: %s answer version %d after %.1f s\n", count(len(u.hosts), "host"), version, took.Seconds())
	}
	for _, h := range u.hosts {
		fmt.Fprintf(w, "  %-8s dns %s\n", h.Name, h.DNS)
	}
	host, port, _ := strings.Cut(u.hosts[0].DNS, ":")
	fmt.Fprintf(w, "  api %s, http://%s/status /metrics /fleet\n", u.api.Listen, u.process.HTTP)
	fmt.Fprintf(w, "\ntry next:\n")
	fmt.Fprintf(w, "  dig @%s -p %s _fresh.internal.zonecast.internal TXT +short\n", host, port)
	for _, c := range []string{
		"status", "servers --role mc", "register web9001.eqiad.wmnet --address 10.64.0.9,2620:0:861:101::9 --role web --site eqiad --wait",
		"get web9001.eqiad.wmnet", "why web9001.eqiad.wmnet A", "conflicts",
	} {
		api := ""
		if u.api.Listen != defaultClientOptions().API {
			api = " --api " + u.api.Listen
		}
		fmt.Fprintf(w, "  zonecast %s%s\n", c, api)
	}
}
