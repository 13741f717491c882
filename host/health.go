package host

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	checkTime = 2 * time.Second // for one question
	// The pause after a restart of a part that hangs before it is restarted again: the
	// first, doubled up to the most. A part that hangs whatever is done is not helped by
	// being killed all the time.
	restartFirst = 30 * time.Second
	restartMost  = 10 * time.Minute
)

// watch restarts a part that runs and does not answer, and replaces one of an older file; one that
// Stays is left alone.
func (s *Supervisor) watch(ctx context.Context, p *part) {
	if s.cfg.CheckEvery == 0 {
		return
	}
	client := &http.Client{Timeout: checkTime, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(s.cfg.CheckEvery)
	defer tick.Stop()
	pause, next := restartFirst, time.Time{}
	judged := 0 // the process that answered once
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pid, since, _ := p.has.state(ctx)
		if pid == 0 {
			continue // starting it is the manager's
		}
		as := p.now(pid)
		if judged == pid && as.Stays == "" && time.Now().After(next) && p.has.outdated(ctx) {
			s.replacing.Lock()
			s.replace(ctx, p, as)
			s.replacing.Unlock()
			next, pause, judged = time.Now().Add(pause), min(2*pause, restartMost), 0
			continue
		}
		err := s.check(ctx, client, as)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			judged = pid
			p.told(nil)
			if time.Since(next) > restartMost {
				pause = restartFirst
			}
			continue
		}
		if judged != pid && time.Since(since) < s.cfg.StartGrace {
			continue
		}
		if p.told(err) < s.cfg.CheckFall || time.Now().Before(next) {
			continue
		}
		next, pause = time.Now().Add(pause), min(2*pause, restartMost)
		if as.Stays != "" { // what keeps this one from answering may do so on all hosts at once
			s.deps.Log.Error("part does not answer, and is not ended", "part", p.name, "pid", pid, "error", err, "why", as.Stays)
			continue
		}
		s.deps.Log.Error("part does not answer: started again", "part", p.name, "pid", pid, "error", err)
		p.restarts.Inc()
		if err := p.has.restart(ctx); err != nil && ctx.Err() == nil {
			s.deps.Log.Error("part not started again", "part", p.name, "error", err)
		}
		judged = 0
		p.told(nil)
	}
}

// told notes a verdict, and gives how many checks in a row have failed.
func (p *part) told(err error) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.failures, p.why = 0, ""
		return 0
	}
	p.failures++
	p.why = err.Error()
	return p.failures
}

// check asks a part whether it is there. What it says does not matter: one that says that
// it cannot answer, or has a warning, is no better after a restart.
func (s *Supervisor) check(ctx context.Context, client *http.Client, p Part) error {
	url := fmt.Sprintf("http://%s/healthz", s.cfg.HTTPOf(p.Name))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	res.Body.Close()
	if p.DNS.IsValid() {
		if err := Probe(ctx, p.DNS); err != nil {
			return fmt.Errorf("question to %s: %w", p.DNS, err)
		}
	}
	return nil
}

// Probe asks a DNS server the least that there is to ask - the NS records of the root,
// over UDP - and takes any response for life, up to three times as packets get lost.
func Probe(ctx context.Context, server netip.AddrPort) (err error) {
	for range 3 {
		if err = probe(ctx, server); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func probe(ctx context.Context, server netip.AddrPort) error {
	if server.Addr().IsUnspecified() {
		local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if server.Addr().Is6() {
			local = netip.IPv6Loopback()
		}
		server = netip.AddrPortFrom(local, server.Port())
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", server.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(checkTime)); err != nil {
		return err
	}
	id := uint16(time.Now().UnixNano())
	// Header with one question; the root, NS, IN (RFC 1035 §4.1).
	if _, err := c.Write([]byte{byte(id >> 8), byte(id), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1}); err != nil {
		return err
	}
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		const qr = 0x80
		if n >= 12 && b[0] == byte(id>>8) && b[1] == byte(id) && b[2]&qr != 0 {
			return nil
		}
	}
}
