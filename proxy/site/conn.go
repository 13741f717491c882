package site

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// Bounds of one connection.
const (
	maxWatches  = 64
	maxRequests = 16 // in work; the next are not read yet
	// idleTime is how long nothing may come: agents ask for a sign of life every 3 s.
	idleTime = 30 * time.Second
	// writeTime is how long one frame may wait for an agent that does not read.
	writeTime = 10 * time.Second
)

// conn is an agent's connection.
type conn struct {
	net.Conn
	site *Site
	r    *bufio.Reader

	sessions []wire.Token // guarded by reports.mu

	wmu sync.Mutex // guards writing of a frame

	mu      sync.Mutex // guards below
	watches map[uint64]context.CancelFunc
}

// upgrade makes an agent's connection of a request.
func (s *Site) upgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != wire.Protocol {
		w.Header().Set("Upgrade", wire.Protocol)
		http.Error(w, fmt.Sprintf("expected Upgrade: %s", wire.Protocol), http.StatusUpgradeRequired)
		return
	}
	if !s.enter() {
		s.metrics.refused.Inc()
		http.Error(w, fmt.Sprintf("%d agents are connected: --proxy-agents-most is %d", s.cfg.Most, s.cfg.Most), http.StatusServiceUnavailable)
		return
	}
	defer s.leave()
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	c := &conn{Conn: nc, site: s, r: rw.Reader, watches: map[uint64]context.CancelFunc{}}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() }) // ends reading
	defer stop()
	_ = nc.SetDeadline(time.Now().Add(writeTime)) // of the server; ours are set frame by frame
	if _, err := fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", wire.Protocol); err != nil {
		_ = nc.Close()
		return
	}
	err = c.serve(ctx)
	s.log.Debug("agent's connection ended", "agent", r.RemoteAddr, "error", err)
}

// serve answers until the connection breaks.
func (c *conn) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		_ = c.Close() // whoever writes is ended
		c.site.reports.gone(c)
		wg.Wait()
	}()
	places := make(chan struct{}, maxRequests)
	for {
		if err := c.SetReadDeadline(time.Now().Add(idleTime)); err != nil {
			return err
		}
		f, err := wire.Read(c.r)
		if err != nil {
			return err
		}
		c.site.reports.heard(c)
		switch f.Kind {
		case wire.Ping:
			if err := c.say(wire.Single(wire.Answer, wire.AppendStatus(nil, c.site.status())), f.ID); err != nil {
				return err
			}
			continue
		case wire.Watch:
			prefix, from, err := wire.ParseWatch(f.Payload)
			if err == nil {
				err = c.watch(ctx, &wg, f.ID, prefix, from)
			}
			if err != nil {
				c.site.metrics.garbage.Inc()
				return err
			}
			continue
		case wire.Unwatch:
			c.mu.Lock()
			if end := c.watches[f.ID]; end != nil {
				end()
			}
			c.mu.Unlock()
			continue
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-places }()
			m, err := c.answer(ctx, f)
			if errors.Is(err, errGarbage) {
				c.site.metrics.garbage.Inc()
				_ = c.Close() // nothing that follows can be trusted to be a frame
				return
			}
			if err != nil {
				m = wire.Single(wire.Refusal, wire.AppendError(nil, err))
			}
			_ = c.say(m, f.ID) // a broken connection ends the reader
		})
	}
}

// errGarbage is what cannot come from a client of this protocol.
var errGarbage = errors.New("not of the protocol")

// answer does what a request asks for.
func (c *conn) answer(ctx context.Context, f wire.Frame) (*wire.Message, error) {
	s := c.site
	ctx, cancel := context.WithTimeout(ctx, 2*upTime)
	defer cancel()
	bad := func(err error) (*wire.Message, error) { return nil, fmt.Errorf("%w: %w", errGarbage, err) }
	switch f.Kind {
	case wire.Get:
		path, err := wire.ParsePath(f.Payload)
		if err != nil {
			return bad(err)
		}
		n, err := s.get(ctx, path)
		if err != nil {
			return nil, err
		}
		return wire.Single(wire.Answer, wire.AppendNode(nil, n)), nil
	case wire.List:
		prefix, err := wire.ParsePath(f.Payload)
		if err != nil {
			return bad(err)
		}
		return s.list(ctx, prefix)
	case wire.Commit:
		token, txn, err := wire.ParseTxn(f.Payload)
		if err != nil {
			return bad(err)
		}
		rev, err := s.commit(ctx, token, txn)
		if err != nil {
			return nil, err
		}
		return wire.Single(wire.Answer, wire.AppendRevision(nil, rev)), nil
	case wire.Open:
		ttl, err := wire.ParseTTL(f.Payload)
		if err != nil {
			return bad(err)
		}
		token, err := s.reports.open(c, ttl)
		if err != nil {
			return nil, err
		}
		return wire.Single(wire.Answer, token[:]), nil
	case wire.Resume, wire.End:
		token, err := wire.ParseToken(f.Payload)
		if err != nil {
			return bad(err)
		}
		if f.Kind == wire.Resume {
			err = s.reports.resume(c, token)
		} else {
			err = s.end(ctx, token)
		}
		if err != nil {
			return nil, err
		}
		return wire.Single(wire.Answer, nil), nil
	}
	return bad(fmt.Errorf("frame of kind %d", f.Kind))
}

// say sends a message, frame by frame, so that an answer need not wait for all of a long one.
func (c *conn) say(m *wire.Message, id uint64) error {
	for i := range m.Frames() {
		c.wmu.Lock()
		err := c.SetWriteDeadline(time.Now().Add(writeTime))
		if err == nil {
			err = m.WriteFrame(c, i, id)
		}
		c.wmu.Unlock()
		if err != nil {
			_ = c.Close() // half a frame may be on the way
			return err
		}
	}
	c.site.metrics.octets.Add(float64(m.Size()))
	return nil
}

// lost tells the agent that a session is over.
func (c *conn) lost(t wire.Token) { _ = c.say(wire.Single(wire.Lost, t[:]), 0) }

// watch starts a watch; an error ends the connection.
func (c *conn) watch(ctx context.Context, wg *sync.WaitGroup, id uint64, prefix string, from store.Revision) error {
	if err := c.site.mayRead(prefix, store.CheckPrefix(prefix)); err != nil {
		// The client asks for nothing that package store forbids; what this site does not serve
		// is a watch on which nothing ever comes, told in the log of the site.
		if c.site.mayLog() {
			c.site.log.Warn("an agent watches what is not served here", "prefix", prefix, "agent", c.RemoteAddr().String(), "error", err)
		}
		return nil
	}
	ctx, end := context.WithCancel(ctx)
	c.mu.Lock()
	_, twice := c.watches[id]
	if twice || len(c.watches) >= maxWatches {
		c.mu.Unlock()
		end()
		return fmt.Errorf("%w: watch %d is there already, or one of more than %d", errGarbage, id, maxWatches)
	}
	c.watches[id] = end
	c.mu.Unlock()
	c.site.metrics.watches.Inc()
	wg.Go(func() {
		defer func() {
			end()
			c.mu.Lock()
			delete(c.watches, id)
			c.mu.Unlock()
			c.site.metrics.watches.Dec()
		}()
		c.follow(ctx, id, prefix, from)
	})
	return nil
}

// follow sends what happens below prefix until ctx ends.
func (c *conn) follow(ctx context.Context, id uint64, prefix string, from store.Revision) {
	m, release := c.site.mirror(prefix)
	defer release()
	p := place{prefix: prefix, from: from}
	for ctx.Err() == nil {
		message, wait, future := m.next(&p)
		if message != nil {
			if c.say(message, id) != nil {
				return
			}
			continue
		}
		if future {
			// An agent that was at another proxy of the site, or the store was put back.
			if rev, err := c.site.link.revision(ctx); err == nil && rev < from {
				p.from = 0
				continue
			}
		}
		again := time.NewTimer(idleTime)
		if !future {
			again.Stop()
		}
		select {
		case <-ctx.Done():
		case <-wait:
		case <-again.C:
		}
		again.Stop()
	}
}
