package replay

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

const (
	// SampleAge is how old a host's sample may be: three times what it takes with the
	// defaults of authority and agent until the next one comes.
	SampleAge = 6 * time.Minute
	// sampledHosts is of how many hosts samples are read, drawn at random from all: of 64
	// with 1000 questions each a share of 1 % is told within 0.1 %.
	sampledHosts = 64
)

// Gather joins the samples that some of the hosts have put into the store lately.
func Gather(ctx context.Context, st store.Store, dataset string, hosts []string, now time.Time, log *slog.Logger) (Traffic, error) {
	hosts = slices.Clone(hosts)
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	hosts = hosts[:min(len(hosts), sampledHosts)]
	oldest := now.Add(-SampleAge).UnixMilli()
	samples := make([]tree.Sample, len(hosts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, host := range hosts {
		g.Go(func() error {
			n, err := st.Get(ctx, tree.SamplePath(dataset, host))
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			var s tree.Sample
			if err := tree.Decode(n, &s); err != nil {
				log.Warn("sample of questions cannot be read", "error", err)
				return nil
			}
			if s.To >= oldest {
				samples[i] = s
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Traffic{}, err
	}
	return Join(samples), nil
}
