package authority

import (
	"context"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/internal/tree"
)

// Source is data that comes from files instead of a journal.
type Source interface {
	// Load makes the image to answer from, at path or elsewhere, and opens it. It is
	// called before New returns, and again when Changed told true.
	Load(path string) (*image.Image, error)
	// Changed tells whether what Load would give may be another image now. It is asked
	// about once a second.
	Changed() bool
}

// static answers from a Source: New loads for the first time, then one goroutine.
type static struct {
	server  *Server
	source  Source
	version uint64 // counts loads
	damage  string // logged last; "" since a sound image
}

// staticLook is how often the source is asked whether it changed.
const staticLook = time.Second

// load swaps in what the source has now. What was served stays when it fails.
func (s *static) load() error {
	var im *image.Image
	err := s.server.images.place(func(path string) (err error) {
		im, err = s.source.Load(path)
		return err
	})
	if err != nil {
		return err
	}
	s.version++
	l := im.Label()
	h := tree.HostDataset{Version: max(s.version, l.Version), Time: l.Time, Since: time.Now().UnixMilli()}
	s.server.show(&state{view: data.New(im), HostDataset: h})
	return nil
}

func (s *static) run(ctx context.Context) {
	t := time.NewTicker(staticLook)
	defer t.Stop()
	for {
		s.scrub(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := s.server.current.Load()
		damaged, changed := now.view.Image().Damaged() != nil, s.source.Changed()
		if damaged {
			s.server.damaged.Add(1)
		}
		if !damaged && !changed {
			continue
		}
		began := time.Now()
		if err := s.load(); err != nil {
			s.server.problems.Add(1)
			s.server.log.Warn("data not loaded anew; what was served stays", "error", err)
			continue
		}
		if v := s.server.current.Load().view; changed {
			s.server.log.Info("data loaded anew", "zones", v.Zones(), "rrsets", v.Sets(), "took", time.Since(began).String())
		}
	}
}

// scrub checks the image that is served now, unless that was done, so that queries
// need not.
func (s *static) scrub(ctx context.Context) {
	im := s.server.current.Load().view.Image()
	if im.Damaged() != nil || im.Scrubbed() {
		return
	}
	err := im.Scrub(ctx.Err)
	switch {
	case err == nil:
		s.damage = ""
	case ctx.Err() == nil && s.damage != err.Error(): // the same file again says the same
		s.damage = err.Error()
		s.server.log.Error("image is damaged; what lies elsewhere in it is answered", "error", err)
	}
}

// keep: an image of files needs no folding.
func (s *static) keep(context.Context) {}
