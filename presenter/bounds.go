package presenter

import (
	"fmt"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/store"
)

// SetGuard changes what a source may change without a person, from the next change on; what
// is held stays held. Bounds that make no sense, or are too long to be told to others, are
// refused. It may be called at any time.
func (p *Presenter) SetGuard(b guard.Bounds) error {
	if err := b.Validate(); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	text, err := p.cfg.encodeBounds(b)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.bounds = &bounds{b, text}
	p.mu.Unlock()
	select {
	case p.rebound <- struct{}{}:
	default: // Run will look
	}
	return nil
}

// bounds are those of the guards, and how they are told to those who judge plans elsewhere.
type bounds struct {
	guard.Bounds
	text []byte
}

// encodeBounds gives bounds as they are told; guards that are off have none.
func (c *Config) encodeBounds(b guard.Bounds) ([]byte, error) {
	if !c.Guards {
		b = guard.Bounds{}
	}
	text, err := b.Encode()
	if err == nil && len(text) > store.MaxValue {
		err = fmt.Errorf("bounds have %d octets as JSON, at most %d: protect fewer names, *.x is all below x", len(text), store.MaxValue)
	}
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	return text, nil
}

// takeBounds puts into force what SetGuard said. The next version tells it.
func (p *Presenter) takeBounds() {
	p.mu.Lock()
	b := p.bounds
	p.bounds = nil
	p.mu.Unlock()
	if b == nil {
		return
	}
	if p.gate.judge != nil {
		if err := p.gate.judge.SetBounds(b.Bounds); err != nil {
			p.log.Error("bounds not taken", "error", err)
			return
		}
	}
	p.cfg.Guard, p.inForce = b.Bounds, b.text
	p.log.Info("bounds of guards changed", "dataset", p.cfg.Dataset)
}
