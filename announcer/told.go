package announcer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// orders are what people want, as the store said last. The zero value is before it said
// anything.
type orders struct {
	heard  bool
	byPath map[string]tree.VIPOrder // by path
}

// of is the order to a host of a VIP: its own before that to all. Before the store said
// anything it is the one that is remembered.
func (o orders) of(vip, host string, remembered state.Order, why string) (state.Order, string) {
	if !o.heard {
		return remembered, why
	}
	for _, to := range []string{host, tree.AllHosts} {
		said, there := o.byPath[tree.VIPOrderPath(vip, to)]
		if !there {
			continue
		}
		if order, ok := state.ParseOrder(said.Order); ok {
			return order, fmt.Sprintf("%s by %s: %s", said.Order, said.Author, said.Reason)
		}
		return state.Hold, fmt.Sprintf("an order %.40q is not understood here: nothing is changed", said.Order)
	}
	return state.None, ""
}

// followOrders keeps the orders. While the store is away those that it said last stand.
func (a *Announcer) followOrders(ctx context.Context) error {
	for b := range a.deps.Store.Watch(ctx, tree.VIPOrders, 0) {
		a.mu.Lock()
		a.takeOrders(b)
		a.mu.Unlock()
		signal(a.kick)
	}
	return ctx.Err()
}

func (a *Announcer) takeOrders(b store.Batch) {
	if b.Reset || a.orders.byPath == nil {
		a.orders.byPath = map[string]tree.VIPOrder{}
	}
	a.orders.heard = true
	for _, path := range b.Deletes {
		delete(a.orders.byPath, path)
	}
	for _, n := range b.Puts {
		rest := strings.TrimPrefix(n.Path, tree.VIPOrders)
		vip, host, _ := strings.Cut(rest, "/")
		if a.vip(vip) == nil || host != a.cfg.Host && host != tree.AllHosts {
			continue
		}
		var o tree.VIPOrder
		if err := tree.Decode(n, &o); err != nil {
			a.deps.Log.Warn("order cannot be read: what is announced stays", "vip", vip, "error", err)
			o = tree.VIPOrder{Order: "?"}
		}
		a.orders.byPath[n.Path] = o
	}
}

// Pauses between two tries to tell the store.
const (
	minPause = 100 * time.Millisecond
	maxPause = 10 * time.Second
	settled  = 30 * time.Second
)

// tell keeps what the store says of this host true.
func (a *Announcer) tell(ctx context.Context) error {
	pause := minPause
	for {
		began := time.Now()
		err := a.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > settled {
			pause = minPause
		}
		a.deps.Log.Debug("store is not told, trying again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// session tells the store until its session is lost.
func (a *Announcer) session(ctx context.Context) (err error) {
	s, err := a.deps.Store.Session(ctx, a.cfg.SessionTTL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	said := map[string][]byte{}
	for {
		var ops []store.Op
		for path, value := range a.nodes() {
			if !bytes.Equal(said[path], value) {
				ops = append(ops, store.Op{Path: path, Value: value})
			}
		}
		for _, op := range ops { // few, and each is whole by itself
			short, cancel := context.WithTimeout(ctx, askTimeout)
			_, err := s.Commit(short, store.Txn{Do: []store.Op{op}})
			cancel()
			if err != nil {
				return err
			}
			said[op.Path] = op.Value
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Done():
			return store.ErrSessionLost
		case <-a.told:
		}
	}
}

func (a *Announcer) nodes() map[string][]byte {
	out := map[string][]byte{}
	for _, r := range a.Report() {
		out[tree.VIPHostPath(r.VIP, a.cfg.Host)] = tree.Encode(r.VIPHost)
	}
	return out
}

// Report is what a VIP does here.
type Report struct {
	VIP string `json:"vip"`
	tree.VIPHost
}

// maxWhy bounds texts in the store, in octets.
const maxWhy = 500

// Report gives what every VIP does now.
func (a *Announcer) Report() []Report {
	sessions := []string{}
	for _, p := range a.speaker.Peers() {
		text := p.Peer + " " + p.State
		if p.Why != "" {
			text += ": " + p.Why
		}
		sessions = append(sessions, clip(text))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Report, len(a.vips))
	for i, v := range a.vips {
		h := tree.VIPHost{
			Host: a.cfg.Host, Addresses: []string{}, State: v.state.String(), Announced: v.state.Announced(), Since: v.sinceWall.UnixMilli(), Health: v.health.String(),
			Order: v.order.String(), Sessions: sessions, Keep: a.cfg.Floor.Keep, KeepPercent: a.cfg.Floor.KeepPercent,
		}
		for _, r := range v.addrs {
			h.Addresses = append(h.Addresses, r.Prefix.String())
		}
		var why []string
		for _, text := range []string{v.orderWhy, v.why, v.leaseWhy, v.trouble} {
			if text != "" {
				why = append(why, text)
			}
		}
		h.Why = clip(strings.Join(why, "; "))
		out[i] = Report{v.name, h}
	}
	return out
}

func clip(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > maxWhy {
		return strings.ToValidUTF8(text[:maxWhy], "") + "…"
	}
	return text
}

// Troubles tells what a person should see to.
func (a *Announcer) Troubles() (out []string) {
	for _, p := range a.speaker.Peers() {
		if !p.Established {
			out = append(out, fmt.Sprintf("no session with router %s (%s): %s", p.Peer, p.State, p.Why))
		}
	}
	out = append(out, a.unanswered()...)
	a.mu.Lock()
	if a.unread != "" {
		out = append(out, a.unread)
	}
	a.mu.Unlock()
	for _, r := range a.Report() {
		if r.State != state.Up.String() {
			out = append(out, strings.TrimSuffix(fmt.Sprintf("VIP %s is %s: %s", r.VIP, r.State, r.Why), ": "))
		}
	}
	return out
}

// Handler serves Report as JSON.
func (a *Announcer) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.Report()) // nothing to do for a reader who left
	})
}
