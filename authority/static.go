package authority

import (
	"context"
	"sync"
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

// static answers from a Source.
type static struct {
	server  *Server
	source  Source
	mu      sync.Mutex // guards below
	version uint64     // counts loads
}

// staticLook is how often the source is asked whether it changed.
const staticLook = time.Second

// load swaps in what the source has now. What was served stays when it fails.
func (s *static) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.server.current.Store(&state{view: data.New(im), HostDataset: h})
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
		damaged := now.view.Image().Damaged()
		if damaged != nil {
			s.server.damaged.Add(1)
		}
		if damaged == nil && !s.source.Changed() {
			continue
		}
		began := time.Now()
		if err := s.load(); err != nil {
			s.server.problems.Add(1)
			s.server.log.Warn("data not loaded anew; what was served stays", "error", err)
			continue
		}
		v := s.server.current.Load().view
		s.server.log.Info("data loaded anew", "zones", v.Zones(), "rrsets", v.Sets(), "took", time.Since(began).String(), "damaged", damaged)
	}
}

// scrub checks the image that is served now, unless that was done, so that queries
// need not.
func (s *static) scrub(ctx context.Context) {
	im := s.server.current.Load().view.Image()
	if im.Damaged() != nil || im.Scrubbed() {
		return
	}
	if err := im.Scrub(ctx.Err); err != nil && ctx.Err() == nil {
		s.server.log.Error("image is damaged", "error", err)
	}
}

// keep: an image of files needs no folding.
func (s *static) keep(context.Context) {}
