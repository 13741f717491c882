package authority

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/zonecast/zonecast/authority/cookie"
	"github.com/zonecast/zonecast/authority/ratelimit"
	"github.com/zonecast/zonecast/authority/wire"
)

// guard is what tells honest clients from floods: the secrets of cookies, and the
// limits on responses.
type guard struct {
	path    string // of the secrets; "": none is read
	current atomic.Pointer[cookie.Secrets]
	stamp   fileStamp // of the file when it was read; for one goroutine
	problem string    // with the file, logged last

	limits ratelimit.Config
	seed   ratelimit.Seed
}

// noCookies is the value of cookie-secrets that turns them off.
const noCookies = "off"

func newGuard(c Config) (*guard, error) {
	g := &guard{}
	switch c.CookieSecrets {
	case noCookies:
	case "":
		g.current.Store(cookie.Random())
	default:
		g.path, g.stamp = c.CookieSecrets, stampOf(c.CookieSecrets)
		s, err := cookie.Load(g.path)
		if err != nil {
			return nil, err
		}
		g.current.Store(s)
	}
	var err error
	if g.limits, err = c.limits(cmp.Or(c.UDPWorkers, wire.Processors())); err != nil {
		return nil, fmt.Errorf("configure authority: %w", err)
	}
	rand.Read(g.seed[:]) // never fails: it ends the process when there is no entropy
	return g, nil
}

// secrets is for protocol.Config.
func (g *guard) secrets() func() *cookie.Secrets {
	if g.current.Load() == nil {
		return nil
	}
	return g.current.Load
}

// limiter makes one for a worker; nil when nothing is limited.
func (g *guard) limiter() *ratelimit.Limiter {
	if g.limits.PerSecond == 0 && g.limits.AllPerSecond == 0 {
		return nil
	}
	l, err := ratelimit.New(g.limits, g.seed)
	if err != nil {
		panic("limits were valid: " + err.Error())
	}
	return l
}

// fileStamp tells a file from what it was before.
type fileStamp struct {
	size, changed int64
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{size: info.Size(), changed: info.ModTime().UnixNano()}
}

// guardLook is how often the secrets' file is looked at and limits are logged.
const guardLook = time.Second

// maxLimitLines bounds what limits log in one look: a flood from random prefixes is
// no flood of the log.
const maxLimitLines = 10

// watch reads the secrets anew when they change, logs limits that began or ended, and
// ends the periods in which names are counted.
func (s *Server) watch(ctx context.Context) {
	t := time.NewTicker(guardLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s.turnTop(time.Now())
		s.sampleNow(time.Now())
		s.rereadSecrets()
		s.logLimits()
	}
}

func (s *Server) rereadSecrets() {
	g := s.guard
	if g.path == "" {
		return
	}
	now := stampOf(g.path)
	if now == g.stamp && g.problem == "" {
		return
	}
	secrets, err := cookie.Load(g.path)
	if err != nil {
		if g.problem != err.Error() {
			g.problem = err.Error()
			s.log.Error("cookie secrets not read anew; those read before stay", "error", err)
		}
		return
	}
	g.stamp, g.problem = now, ""
	g.current.Store(secrets)
	s.log.Info("cookie secrets read anew", "file", g.path)
}

func (s *Server) logLimits() {
	var events []ratelimit.Event
	unsaid := uint64(0)
	s.workers.each(func(k *worker) {
		if k.limiter != nil {
			var lost uint64
			events, lost = k.limiter.Events(events)
			unsaid += lost
		}
	})
	for i, e := range events {
		if i == maxLimitLines {
			unsaid += uint64(len(events) - i)
			break
		}
		bucket := fmt.Sprintf("%016x", e.Bucket)
		if e.Began {
			s.log.Warn("responses to a client are limited", "client", e.Client.String(), "class", e.Class.String(), "limit", bucket)
		} else {
			s.log.Info("responses are not limited any more", "class", e.Class.String(), "limit", bucket, "limited", e.Limited)
		}
	}
	if unsaid > 0 {
		s.log.Warn("more limits on responses began or ended", "times", unsaid)
	}
}
