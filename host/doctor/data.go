package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/refused"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// Bounds of age. The dataset gets a freshness record each second, so that a journal that
// stands still for longer than the first is behind something; what is answered goes on.
const (
	ageWarn = time.Minute
	ageBad  = time.Hour
)

func options(_ context.Context, f Facts) Finding {
	var wrong []string
	for _, p := range partsOf(f) {
		if err := f.Mistakes[p]; err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", p, strings.ReplaceAll(err.Error(), "\n", "; ")))
		}
	}
	if len(wrong) > 0 {
		return bad(strings.Join(wrong, "; "), "set them in the file of --config or in ZONECAST_* variables; `zonecast run PART --help` says which there are")
	}
	return ok("those of " + strings.Join(partsOf(f), ", ") + " are valid")
}

// partsOf are the parts that run here.
func partsOf(f Facts) []string { return f.Config.Run }

func keys(_ context.Context, f Facts) Finding {
	if len(f.Keys) == 0 {
		return bad("no file of public keys is configured", "copy publisher.key.pub from the publisher, and name it in --host-keys")
	}
	n := 0
	for _, file := range f.Keys {
		all, err := snapshot.LoadPublicKeys(file)
		if errors.Is(err, fs.ErrNotExist) {
			return bad(fmt.Sprintf("%s is not there: agent and authority do not start without", file), "copy publisher.key.pub from the publisher (publisher-key of `zonecast run publisher`) to it")
		}
		if err != nil {
			return bad(err.Error(), "copy publisher.key.pub from the publisher again: PEM blocks, one after another")
		}
		n += len(all)
		if i, err := os.Stat(file); err == nil && i.Mode().Perm()&0o022 != 0 {
			return bad(fmt.Sprintf("%s may be written by others (mode %#o): they decide what this host believes", file, i.Mode().Perm()), "chmod go-w "+file)
		}
	}
	ring, err := ring(f)
	if err != nil {
		return bad(err.Error(), "see what the file has; docs/running.md has how keys are changed")
	}
	if problems := ring.Problems(); len(problems) > 0 {
		return warn(strings.Join(problems, "; "), "put the file in order: what cannot be read revokes nothing")
	}
	if len(ring.Keys().Believed) == 0 {
		return bad(fmt.Sprintf("all %d keys are revoked: nothing new is believed", n), "give this host the publisher's new key")
	}
	return ok(fmt.Sprintf("%d believed, %d revoked", len(ring.Keys().Believed), len(ring.Keys().Revoked)))
}

func ring(f Facts) (*trust.Ring, error) {
	return trust.Open(trust.Config{Keys: f.Keys, Revoked: f.Revoked, Memory: trust.MemoryFile(f.Journal), Reader: true})
}

// load reads the journal as the authority does.
func load(f Facts) (*snapshot.Dataset, *snapshot.Manifest, error) {
	r, err := ring(f)
	if err != nil {
		return nil, nil, fmt.Errorf("no keys to verify it by: %w", err)
	}
	return journal.Load(f.Journal, r.Keys)
}

func journalSound(_ context.Context, f Facts) Finding {
	if f.Journal == "" {
		return skip("no part keeps one")
	}
	d, m, err := load(f)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad(f.Journal+" is empty: the agent has fetched nothing yet", "start the agent; if it runs, its log and the check of the store say what it waits for")
	case err != nil:
		return bad(fmt.Sprintf("not served: %v", err), "start the agent: it moves a damaged journal aside and fetches anew. If no known key has signed it, give this host the publisher's key")
	case d == nil || m == nil:
		return bad(f.Journal+" has nothing that is signed yet", "start the agent; if it runs, its log and the check of the store say what it waits for")
	}
	return ok(fmt.Sprintf("version %d of %s, whole and signed", m.Version, m.Dataset))
}

func journalAge(_ context.Context, f Facts) Finding {
	if f.Journal == "" {
		return skip("no part keeps one")
	}
	_, m, err := load(f)
	if err != nil || m == nil {
		return skip("there is no journal to be old")
	}
	age := time.Since(time.UnixMilli(m.Time))
	found := fmt.Sprintf("version %d is %s old", m.Version, age.Round(time.Second))
	const do = "answers go on, and changes do not arrive: see the checks of the store and the processes, then whether mutator, presenter and publisher live (`zonecast status`)"
	switch {
	case age < -ageWarn:
		return bad(fmt.Sprintf("version %d is from %s ahead of this clock", m.Version, (-age).Round(time.Second)), "one of the clocks is wrong, this one or the mutator's: see the check of the clock")
	case age > ageBad:
		return bad(found, do)
	case age > ageWarn:
		return warn(found, do)
	}
	return ok(found)
}

func refusedData(_ context.Context, f Facts) Finding {
	if f.Journal == "" {
		return skip("no part keeps a journal")
	}
	all, err := refused.List(journal.System(), refused.Dir(f.Journal))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return skip(err.Error())
	}
	if len(all) == 0 {
		return ok("the agent refused nothing")
	}
	last := all[len(all)-1]
	when := time.UnixMilli(last.Time)
	found := fmt.Sprintf("%d things, the last at %s: %s", len(all), when.UTC().Format(time.RFC3339), last.Why)
	if time.Since(when) > 24*time.Hour {
		return ok(found)
	}
	return warn(found, "`zonecast host refused "+f.Journal+"` has each; somebody sends what no believed key signed, or a disk or a line spoils data")
}

func servingNewest(_ context.Context, f Facts) Finding {
	if f.StatusDir == "" {
		return skip("nothing says what is answered")
	}
	s, err := serving.Read(f.StatusDir)
	if errors.Is(err, fs.ErrNotExist) {
		return bad("nothing says that it answers", "start the authority; if it runs, both its status-dir and the agent's have to be "+f.StatusDir)
	}
	if err != nil {
		return bad(err.Error(), "see whether the authority may write "+f.StatusDir)
	}
	_, m, err := load(f)
	if err != nil || m == nil {
		return skip(fmt.Sprintf("version %d is answered; there is no journal to compare with", s.Version))
	}
	// The journal was read after the file: it may have gone on by the versions of a moment.
	const moment = 30
	if s.Version+moment < m.Version {
		return bad(fmt.Sprintf("version %d is answered, the journal has %d", s.Version, m.Version), "see the authority's log: it does not follow the journal. Its keys may be other than the agent's")
	}
	return ok(fmt.Sprintf("version %d is answered", s.Version))
}

func reachStore(ctx context.Context, f Facts) Finding {
	if f.Store == nil {
		return skip("no part that runs here needs it")
	}
	if err := f.Store(ctx); err != nil {
		return warn(fmt.Sprintf("%s: %v", f.StoreName, err), "answers go on without it, changes do not arrive. See whether the address is right, the store runs, and no filter is between")
	}
	return ok(f.StoreName + " answers")
}
