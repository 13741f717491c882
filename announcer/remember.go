package announcer

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/zonecast/zonecast/announcer/state"
)

// memory is what is remembered of VIPs through a restart of this process.
type memory struct {
	// Boot is that of the machine: after another one nothing runs yet, and nothing is announced
	// before it is checked.
	Boot string               `json:"boot"`
	VIPs map[string]memoryVIP `json:"vips"`
	// Addresses are those that were added to the loopback device, and are there until they
	// are taken away.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Answered are datasets that all daemons have answered: they count from the start on.
	Answered []string `json:"answered,omitempty"`
}

type memoryVIP struct {
	Announced bool   `json:"announced"`
	Order     string `json:"order,omitempty"` // of a person: the store may be away at the next start
}

// bootID is the kernel's, which is another one after each boot; empty where there is none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// recall reads what was remembered; a file that is not there, or cannot be read, is none, with
// the reason.
func recall(path string) (m memory, err error) {
	if path == "" {
		return memory{}, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return memory{}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return memory{}, err
	}
	return m, nil
}

// remember keeps the file true, beside the loop: a disk that takes its time delays no route. What
// a crash leaves unwritten is one move, which the checks make again.
func (a *Announcer) remember(ctx context.Context) error {
	for {
		select {
		case <-a.moved:
			a.save()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *Announcer) save() {
	if a.cfg.State == "" {
		return
	}
	m := memory{Boot: a.boot, VIPs: map[string]memoryVIP{}, Addresses: a.added}
	a.mu.Lock()
	m.Answered = a.answered()
	for _, v := range a.vips {
		m.VIPs[v.name] = memoryVIP{v.state.Announced(), v.order.String()}
	}
	a.mu.Unlock()
	b, err := json.Marshal(m)
	if err == nil {
		err = a.write(a.cfg.State, 0o644, b)
	}
	if err != nil {
		a.deps.Log.Warn("state is not remembered: a restart begins anew", "file", a.cfg.State, "error", err)
	}
}

// begin sets a VIP to what was remembered.
func (v *vip) begin(m memory, boot string) {
	was, there := m.VIPs[v.name]
	if !there {
		return
	}
	v.order, _ = state.ParseOrder(was.Order)
	if was.Announced && m.Boot == boot {
		v.state = state.Held // until the first verdict
	}
}
