package presenter

import (
	"context"
	"fmt"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// resignTimeout bounds how long giving up leadership may take at the end: the
// session runs out by itself when the store does not answer.
const resignTimeout = 2 * time.Second

// term is one leadership.
type term struct {
	fence store.Cond
	done  <-chan struct{} // closed when the session is lost
	give  func()          // gives the leadership up; may be called more than once
}

// lost is closed when the term is over; a nil term is never over.
func (t *term) lost() <-chan struct{} {
	if t == nil {
		return nil
	}
	return t.done
}

// context is ctx, but ends with the term as well; a nil term adds nothing. The
// function frees what it holds.
func (t *term) context(ctx context.Context) (context.Context, func()) {
	if t == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-t.done:
			cancel(store.ErrSessionLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}

// campaign stands for election again and again until ctx ends, and sends each term
// it wins.
func (p *Presenter) campaign(ctx context.Context, terms chan<- *term) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := p.stand(ctx, terms)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.log.Warn("election did not work, trying again", "error", err, "pause", pause)
			p.note(func(s *Status) {
				if !s.Leading {
					s.Problem = err.Error()
				}
			})
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// stand waits to be elected and returns when the term is over.
func (p *Presenter) stand(ctx context.Context, terms chan<- *term) (err error) {
	session, err := p.deps.Store.Session(ctx, p.cfg.SessionTTL)
	if err != nil {
		return fmt.Errorf("begin session: %w", err)
	}
	defer session.Close() // without an answer the lease ends it
	path := tree.ElectPresenter + "/" + p.cfg.Dataset
	lead, err := session.Elect(ctx, path, []byte(p.deps.Name))
	if err != nil {
		return fmt.Errorf("stand for %s: %w", path, err)
	}
	over, give := context.WithCancel(ctx)
	defer give()
	select {
	case terms <- &term{fence: lead.Fence, done: session.Done(), give: give}:
	case <-session.Done():
		return fmt.Errorf("stand for %s: %w", path, store.ErrSessionLost)
	case <-ctx.Done():
	}
	select {
	case <-over.Done():
	case <-session.Done():
		return nil
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if err := lead.Resign(bound); err != nil && ctx.Err() == nil {
		return fmt.Errorf("resign %s: %w", path, err)
	}
	return nil
}
