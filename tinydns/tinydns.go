package tinydns

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

const (
	// retry is between tries to follow the journal, and to build what failed.
	retry = time.Second
	// look is how often it is seen whether tinydns runs.
	look = 200 * time.Millisecond
	// buildTime bounds a run of tinydns-data; 2 million records take about 2 s.
	buildTime = 5 * time.Minute
	// seedSize is what tinydns reads from its standard input at its start.
	seedSize = 128
)

// Server has tinydns answer one dataset.
type Server struct {
	cfg     Config
	log     *slog.Logger
	ring    *trust.Ring
	atlas   *geo.Atlas // nil: no locations
	metrics *metrics
	wake    chan struct{} // a version came; holds one

	mu      sync.Mutex        // guards below
	dataset *snapshot.Dataset // nil: no state of the journal yet
	state   Status
	daemon  *daemon.Daemon // nil: somebody else runs it, or not yet

	// Of the goroutine that works.
	built   tree.HostDataset // in data.cdb; Version 0 is none
	content uint64           // Dataset.Content of that
	said    uint64           // version in the file "serving"; 0 is no file
}

// Status is how it stands.
type Status struct {
	Version uint64         `json:"version"` // in data.cdb; 0: none yet
	Lines   int            `json:"lines"`
	Unsaid  map[Reason]int `json:"unsaid"`
	Build   string         `json:"build,omitempty"` // why the newest version is not in data.cdb
	Journal string         `json:"journal,omitempty"`
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is what a person may do.
func (e *hinted) Hint() string { return e.hint }

// New reads the keys and the locations.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure tinydns: %w", err)
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("tinydns: %w", err)
	}
	s := &Server{cfg: cfg, log: deps.Log, wake: make(chan struct{}, 1)}
	if s.ring, err = trust.Open(trust.Config{Keys: cfg.Keys, Revoked: cfg.Revoked, Memory: trust.MemoryFile(cfg.Journal), Reader: true, Log: deps.Log}); err != nil {
		return nil, err
	}
	if cfg.Locations != "" {
		if s.atlas, err = readLocations(cfg.Locations); err != nil {
			return nil, err
		}
	}
	if s.metrics, err = newMetrics(s, deps.Metrics); err != nil {
		return nil, err
	}
	return s, nil
}

// readLocations reads a file of which only the lines % are meant.
func readLocations(path string) (*geo.Atlas, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("locations: %w", err)
	}
	defer f.Close()
	d, err := tinydns.ParseText(f, path, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("locations: %w", err)
	}
	if len(d.Sets) > 0 {
		return nil, fmt.Errorf("locations: %s has records, such as %s; expected lines %%lo:prefix alone: records are the dataset's", path, d.Sets[0].Key)
	}
	return &d.Atlas, nil
}

// Status is how it stands.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Detail is the status in a line.
func (s *Server) Detail() string {
	st := s.Status()
	return fmt.Sprintf("version %d, %d lines; not said, or said differently: %s (%s)", st.Version, st.Lines, summary(st.Unsaid), filepath.Join(s.cfg.Dir, "unsaid.txt"))
}

// Troubles are what a person should mend.
func (s *Server) Troubles() (all []string) {
	st := s.Status()
	all = append(all, st.Build, st.Journal)
	if d := s.process(); d.Pid == 0 && d.Ended != "" {
		all = append(all, "tinydns does not run: "+d.Ended)
	}
	return all
}

// process is how it stands with the child; the zero value where there is none.
func (s *Server) process() (st daemon.State) {
	s.mu.Lock()
	d := s.daemon
	s.mu.Unlock()
	if d != nil {
		st, _ = d.State()
	}
	return st
}

// Run follows the journal until ctx ends. An error is one of the start.
func (s *Server) Run(ctx context.Context) error {
	if err := serving.Remove(s.cfg.StatusDir); err != nil {
		s.log.Warn("status file of an earlier life not removed; the fleet will believe this host answers", "error", err)
	}
	for _, dir := range []string{s.cfg.root(), s.cfg.build(), s.cfg.StatusDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("tinydns: %w", err)
		}
	}
	compiler, err := find(s.cfg.TinydnsData, "tinydns-data")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if s.cfg.Start {
		d, err := s.child()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.daemon = d
		s.mu.Unlock()
		wg.Go(func() { _ = d.Run(ctx) }) // which ends without an error
	}
	wg.Go(func() { s.ring.Run(ctx, nil, nil) })
	wg.Go(func() { s.follow(ctx) })
	service.Ready(ctx)
	s.work(ctx, compiler)
	if err := serving.Remove(s.cfg.StatusDir); err != nil {
		s.log.Warn("status file not removed; the fleet will believe this host answers", "error", err)
	}
	return nil
}

func find(option, name string) (string, error) {
	if option == "" {
		option = name
	}
	path, err := daemon.Find(option)
	if err != nil {
		return "", &hinted{fmt.Errorf("%s is not there: %w", name, err), "apt-get install tinydns, or give the program by --tinydns-program and --tinydns-data-program"}
	}
	return path, nil
}

// child is tinydns as it is started. It wants its directory, its address and the account
// in its environment, and random octets to read.
func (s *Server) child() (*daemon.Daemon, error) {
	path, err := find(s.cfg.Tinydns, "tinydns")
	if err != nil {
		return nil, err
	}
	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	if os.Getuid() == 0 {
		account, err := user.Lookup(s.cfg.User)
		if err != nil {
			return nil, &hinted{fmt.Errorf("account for tinydns: %w", err), "make it, or give another by --tinydns-user"}
		}
		uid, gid = account.Uid, account.Gid
	}
	seed := make([]byte, seedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("tinydns: %w", err)
	}
	return daemon.New(daemon.Config{
		Path: path, Dir: s.cfg.root(), Stdin: seed,
		Env:     []string{"ROOT=" + s.cfg.root(), "IP=" + s.cfg.Address, "UID=" + uid, "GID=" + gid},
		PidFile: filepath.Join(s.cfg.Dir, "tinydns.pid"), Leave: s.cfg.Leave, Line: lineLevel, Log: s.log,
	}), nil
}

// lineLevel judges what tinydns says: a line for each query, and why it ends.
func lineLevel(line string) (slog.Level, string, bool) {
	if strings.Contains(line, "fatal:") || strings.Contains(line, "warning:") {
		return slog.LevelError, line, true
	}
	return slog.LevelDebug, line, false
}

// follow keeps the dataset at the journal's version.
func (s *Server) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := journal.Follow(ctx, s.cfg.Journal, s.ring.Keys, s.event)
		if ctx.Err() != nil {
			return
		}
		s.trouble(err)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (s *Server) trouble(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	news := text != s.state.Journal
	s.state.Journal = text
	s.mu.Unlock()
	if news && err != nil {
		s.log.Warn("journal not followed; what was served stays", "error", err)
	}
}

func (s *Server) event(e journal.Event) error {
	s.mu.Lock()
	var err error
	switch {
	case e.Reset != nil && e.Reset.Name() != s.cfg.Dataset:
		err = fmt.Errorf("journal %s has the dataset %q, expected %q: check --tinydns-journal and --tinydns-dataset", s.cfg.Journal, e.Reset.Name(), s.cfg.Dataset)
	case e.Reset != nil:
		s.dataset = e.Reset
	case e.Delta != nil:
		err = s.dataset.Apply(e.Delta)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.trouble(e.Problem)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// work builds and says what is answered, until ctx ends.
func (s *Server) work(ctx context.Context, compiler string) {
	t := time.NewTicker(look)
	defer t.Stop()
	var last time.Time // when the last build began
	for {
		if pause, due := s.due(time.Since(last)); due && pause <= 0 {
			last = time.Now()
			if err := s.build(ctx, compiler); err != nil && ctx.Err() == nil {
				last = last.Add(retry)
			}
		}
		s.say()
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-t.C:
		}
	}
}

// due tells whether there is something to build, and how long that is to wait, so long
// after the last build.
func (s *Server) due(since time.Duration) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dataset
	if d == nil || d.Version() == 0 || d.Version() == s.built.Version && d.Digest().String() == s.built.Digest {
		return 0, false
	}
	if s.built.Version > 0 && d.Content() == s.content && d.Version() > s.built.Version {
		return s.cfg.FreshEvery - since, true
	}
	return s.cfg.Every - since, true
}

// build makes data.cdb of the dataset as it is now.
func (s *Server) build(ctx context.Context, compiler string) (err error) {
	began := time.Now()
	defer func() {
		text := ""
		if err != nil {
			s.metrics.failed.Inc()
			text = err.Error()
		}
		s.mu.Lock()
		news := s.state.Build != text
		s.state.Build = text
		s.mu.Unlock()
		if news && err != nil {
			s.log.Error("data.cdb not made; tinydns answers the one before", "error", err)
		}
	}()
	data := filepath.Join(s.cfg.build(), "data")
	var report tinydns.Report
	look := newSurvey()
	// The lock is held while the text is written: what comes meanwhile waits.
	s.mu.Lock()
	d := s.dataset
	now := tree.HostDataset{Version: d.Version(), Digest: d.Digest().String(), Time: d.Time()}
	content := d.Content()
	err = atomicfile.WriteFunc(data, 0o644, func(w io.Writer) (err error) {
		report, err = tinydns.WriteText(w, look.answered(d), s.atlas)
		return err
	})
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write tinydns-data of version %d: %w", now.Version, err)
	}
	if err := compile(ctx, compiler, s.cfg.build()); err != nil {
		return fmt.Errorf("version %d: %w", now.Version, err)
	}
	unsaid := sorted(look.finish(), report.Problems)
	if err := atomicfile.Write(filepath.Join(s.cfg.Dir, "unsaid.txt"), 0o644, text(d.Name(), unsaid)); err != nil {
		return err
	}
	// tinydns opens data.cdb for each query.
	if err := os.Rename(filepath.Join(s.cfg.build(), "data.cdb"), filepath.Join(s.cfg.root(), "data.cdb")); err != nil {
		return fmt.Errorf("replace data.cdb: %w", err)
	}
	now.Since = time.Now().UnixMilli()
	first := s.built.Version == 0
	s.built, s.content = now, content
	s.mu.Lock()
	before := s.state.Unsaid
	s.state.Version, s.state.Lines, s.state.Unsaid = now.Version, report.Lines, count(unsaid)
	after := s.state.Unsaid
	s.mu.Unlock()
	s.metrics.took.Observe(time.Since(began).Seconds())
	if first || summary(before) != summary(after) {
		s.log.Warn("tinydns cannot say all of the dataset", "version", now.Version, "records", report.Lines, "why", summary(after), "file", filepath.Join(s.cfg.Dir, "unsaid.txt"))
	}
	return nil
}

// answered gives the dataset as it is answered - with the serials of now - and looks at it.
func (s *survey) answered(d *snapshot.Dataset) iter.Seq[record.Set] {
	return func(yield func(record.Set) bool) {
		for r := range d.All() {
			if r.Type == record.TypeSOA && len(r.Data) == 1 {
				r.Data = []record.Rdata{snapshot.SOAWithSerial(r.Data[0], d.Serial(r.Owner))}
			}
			s.add(&r)
			if !yield(record.Set{RRset: r}) {
				return
			}
		}
	}
}

// compile runs tinydns-data on data in dir.
func compile(ctx context.Context, program, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		said := strings.Join(strings.Fields(out.String()), " ")
		return fmt.Errorf("%s: %w: %s", program, err, said[:min(len(said), 300)])
	}
	return nil
}

// say writes what is answered: what is in data.cdb, while tinydns runs.
func (s *Server) say() {
	version := s.built.Version
	if s.cfg.Start && s.process().Pid == 0 {
		version = 0
	}
	if version == s.said {
		return
	}
	var err error
	if version == 0 {
		err = serving.Remove(s.cfg.StatusDir)
	} else {
		err = serving.Write(s.cfg.StatusDir, s.built)
	}
	if err != nil {
		s.log.Warn("status file not written; the fleet will believe this host is behind", "error", err)
		return
	}
	s.said = version
}
