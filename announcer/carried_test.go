package announcer

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/announcer/check"
	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/memstore"
)

// of is a daemon as it answers one dataset.
type of struct {
	*daemons
	target check.Target
}

func (o of) Verdict() (check.Verdict, bool) {
	v, asked := o.daemons.Verdict()
	v.Target = o.target.String()
	return v, asked
}

// several is a host that carries several datasets, of which each is answered as the test says.
type several struct {
	*machine
	t    *testing.T
	asks map[string]*daemons // by dataset; the first one's is ""
}

func bootSeveral(t *testing.T, st *memstore.Store, cfg Config, health map[string]state.Health) *several {
	t.Helper()
	s := &several{t: t, asks: map[string]*daemons{}}
	for d, h := range health {
		s.asks[d] = &daemons{health: h}
	}
	s.machine = bootWith(t, st, cfg, state.Good, func(a *Announcer) {
		m, err := recall(cfg.State)
		if err != nil {
			t.Fatal(err)
		}
		a.newChecker = func(target check.Target) checker { return of{s.asks[target.Dataset], target} }
		a.daemons = nil
		if err := a.begin(m.Answered); err != nil {
			t.Fatal(err)
		}
	})
	return s
}

func (s *several) carries(all ...string) {
	s.t.Helper()
	if err := datasets.WriteCarried(s.cfg.Journal, all); err != nil {
		s.t.Fatal(err)
	}
}

func (s *several) why(want string) {
	s.t.Helper()
	if why := s.Report()[0].Why; !strings.Contains(why, want) {
		s.t.Errorf("the VIP's why is %q, want %q in it", why, want)
	}
}

// TestSeveralDatasets: a VIP needs every dataset that its host carries, from the first right answer of
// each on. One that is taken up takes nothing back, however long it is not there; one that is
// dropped neither, though its answers end at once.
func TestSeveralDatasets(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		cfg := config("d0")
		cfg.Journal, cfg.State = filepath.Join(t.TempDir(), "journal"), filepath.Join(t.TempDir(), "state")
		s := bootSeveral(t, st, cfg, map[string]state.Health{"": state.Good, "edge": state.Unknown})
		time.Sleep(5 * time.Second)
		s.is(t, state.Up)

		s.carries("internal", "edge")
		time.Sleep(10 * time.Second)
		s.is(t, state.Up)
		s.asks["edge"].set(state.Bad, "answers SERVFAIL without it")
		time.Sleep(time.Hour)
		s.is(t, state.Up)
		if got := strings.Join(s.Troubles(), " "); !strings.Contains(got, "authority 127.0.0.1:53 of dataset edge has never answered") || !strings.Contains(got, "answers SERVFAIL") {
			t.Errorf("troubles are %q", got)
		}
		s.asks["edge"].set(state.Dead, "nobody listens") // it says nothing yet of the one that answers
		time.Sleep(10 * time.Second)
		s.is(t, state.Up)

		s.asks["edge"].set(state.Good, "")
		time.Sleep(10 * time.Second)
		s.is(t, state.Up)
		if got := s.Troubles(); len(got) > 0 {
			t.Errorf("troubles are %q", got)
		}
		s.asks["edge"].set(state.Stale, "its freshness record stands still")
		time.Sleep(10 * time.Second)
		s.is(t, state.Degraded)
		s.why("of dataset edge: its freshness record stands still")
		s.asks["edge"].set(state.Bad, "answers SERVFAIL without it")
		time.Sleep(10 * time.Second)
		s.is(t, state.Held) // the only host of its VIP
		s.why("of dataset edge: answers SERVFAIL")
		s.asks["edge"].set(state.Dead, "nobody listens")
		time.Sleep(10 * time.Second)
		s.is(t, state.Held)
		s.asks[""].set(state.Dead, "nobody listens")
		time.Sleep(10 * time.Second)
		s.is(t, state.Down)
		s.asks[""].set(state.Good, "")
		time.Sleep(time.Hour)
		s.is(t, state.Down)
		s.asks["edge"].set(state.Good, "")
		time.Sleep(10 * time.Second)
		s.is(t, state.Up)

		s.carries("internal") // and then the authority drops it
		s.asks["edge"].set(state.Bad, "answers REFUSED")
		signal(s.kick)
		time.Sleep(time.Hour)
		s.is(t, state.Up)
		if n := strings.Count(s.log.String(), "is=held"); n != 1 {
			t.Errorf("it was held %d times, want once:\n%s", n, s.log)
		}

		// Gone over to another dataset altogether, of which nothing was answered: it stays up
		// without a verdict for a minute, and goes when nobody listens.
		s.carries("edge")
		time.Sleep(30 * time.Second)
		s.is(t, state.Up)
		time.Sleep(time.Minute)
		s.is(t, state.Held)
		s.asks["edge"].set(state.Dead, "nobody listens")
		time.Sleep(10 * time.Second)
		s.is(t, state.Down)
		halt(t, []*machine{s.machine})
		st.Close()
	})
}

// TestSeveralDatasetsAtStart: a VIP comes up when all is answered that was in an earlier life, and without
// what never was after a minute.
func TestSeveralDatasetsAtStart(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		cfg := config("d0")
		cfg.Journal, cfg.State = filepath.Join(t.TempDir(), "journal"), filepath.Join(t.TempDir(), "state")
		(&several{machine: &machine{cfg: cfg}, t: t}).carries("internal", "edge")
		s := bootSeveral(t, st, cfg, map[string]state.Health{"": state.Good, "edge": state.Bad})
		time.Sleep(50 * time.Second)
		s.is(t, state.Down)
		s.why("of dataset edge has not answered yet")
		time.Sleep(20 * time.Second)
		s.is(t, state.Up)
		s.asks["edge"].set(state.Good, "")
		time.Sleep(10 * time.Second)
		halt(t, []*machine{s.machine})

		s = bootSeveral(t, st, cfg, map[string]state.Health{"": state.Good, "edge": state.Bad})
		time.Sleep(time.Hour)
		s.is(t, state.Held) // as it was announced: the floor keeps it
		s.why("of dataset edge")
		s.asks["edge"].set(state.Good, "")
		time.Sleep(10 * time.Second)
		s.is(t, state.Up)
		halt(t, []*machine{s.machine})
		st.Close()
	})
}
