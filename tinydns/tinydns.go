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
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/snapshot"
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

// Server has tinydns answer the datasets of a host.
type Server struct {
	cfg     Config
	log     *slog.Logger
	atlas   *geo.Atlas // nil: no locations
	metrics *metrics
	wake    chan struct{} // a version came; holds one

	mu      sync.Mutex // guards below
	carried []*carried // in order; replaced, not changed
	state   Status
	daemon  *daemon.Daemon // nil: somebody else runs it, or not yet

	in []*carried // in data.cdb; of the goroutine that works
}

// Status is how it stands.
type Status struct {
	Carried []CarriedStatus `json:"carried"` // the datasets of the host, in order
	Lines   int             `json:"lines"`
	Unsaid  map[Reason]int  `json:"unsaid"`
	Build   string          `json:"build,omitempty"` // why the newest version is not in data.cdb
	Missing string          `json:"missing,omitempty"`
	List    string          `json:"list,omitempty"` // why it is not known which datasets the host carries
}

// CarriedStatus is how it stands with a dataset.
type CarriedStatus struct {
	Dataset string `json:"dataset"`
	Version uint64 `json:"version"` // in data.cdb; 0: none yet
	Journal string `json:"journal,omitempty"`
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
	if _, err = s.open(cfg.Dataset); err != nil { // keys that cannot be read are said at once
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
	st := s.state
	for _, c := range s.carried {
		st.Carried = append(st.Carried, CarriedStatus{c.dataset, c.version, c.trouble})
	}
	if missing := s.missing(); len(missing) > 0 && len(s.carried) > 1 {
		st.Missing = fmt.Sprintf("data.cdb waits for what no journal has yet: %s", strings.Join(missing, ", "))
	}
	return st
}

// Detail is the status in a line.
func (s *Server) Detail() string {
	st := s.Status()
	var versions []string
	for _, c := range st.Carried {
		versions = append(versions, fmt.Sprintf("version %d of %s", c.Version, c.Dataset))
	}
	return fmt.Sprintf("%s, %d lines; not said, or said differently: %s (%s)", strings.Join(versions, ", "), st.Lines, summary(st.Unsaid), filepath.Join(s.cfg.Dir, "unsaid.txt"))
}

// Troubles are what a person should mend.
func (s *Server) Troubles() (all []string) {
	st := s.Status()
	all = append(all, st.Build, st.Missing, st.List)
	for _, c := range st.Carried {
		all = append(all, c.Journal)
	}
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
	defer func() {
		for _, c := range s.carries() {
			c.end()
		}
	}()
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
	wg.Go(func() {
		datasets.FollowCarried(ctx, s.cfg.Journal, s.cfg.Dataset, func(want []string) error { return s.carry(ctx, want) }, s.listTrouble)
	})
	service.Ready(ctx)
	s.work(ctx, compiler)
	for _, c := range s.in {
		if err := serving.Remove(c.statusDir); err != nil {
			s.log.Warn("status file not removed; the fleet will believe this host answers", "dataset", c.dataset, "error", err)
		}
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

// listTrouble notes why it is not known what the host carries.
func (s *Server) listTrouble(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	news := text != s.state.List
	s.state.List = text
	s.mu.Unlock()
	if news && err != nil {
		s.log.Error("which datasets this host carries cannot be followed; those that are known stay", "error", err)
	}
}

func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
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
	if len(s.carried) == 0 || len(s.missing()) > 0 {
		return 0, false
	}
	news, content := false, !slices.Equal(s.carried, s.in)
	for _, c := range s.carried {
		d := c.data
		if d.Version() == c.built.Version && d.Digest().String() == c.built.Digest {
			continue
		}
		news = true
		content = content || c.built.Version == 0 || d.Content() != c.content || d.Version() < c.built.Version
	}
	switch {
	case content:
		return s.cfg.Every - since, true
	case news:
		return s.cfg.FreshEvery - since, true
	}
	return 0, false
}

// build makes data.cdb of the datasets as they are now.
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
	in := s.carried
	var all []*snapshot.Dataset
	var names, versions []string
	var built []tree.HostDataset
	var contents []uint64
	for _, c := range in {
		d := c.data
		all, names, versions = append(all, d), append(names, c.dataset), append(versions, fmt.Sprintf("%d of %s", d.Version(), c.dataset))
		built, contents = append(built, tree.HostDataset{Version: d.Version(), Digest: d.Digest().String(), Time: d.Time()}), append(contents, d.Content())
	}
	version := strings.Join(versions, ", ")
	err = atomicfile.WriteFunc(data, 0o644, func(w io.Writer) (err error) {
		report, err = tinydns.WriteText(w, look.answered(all), s.atlas)
		return err
	})
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write tinydns-data of version %s: %w", version, err)
	}
	if err := compile(ctx, compiler, s.cfg.build()); err != nil {
		return fmt.Errorf("version %s: %w", version, err)
	}
	unsaid := sorted(look.finish(), report.Problems)
	if err := atomicfile.Write(filepath.Join(s.cfg.Dir, "unsaid.txt"), 0o644, text(strings.Join(names, ", "), unsaid)); err != nil {
		return err
	}
	// tinydns opens data.cdb for each query.
	if err := os.Rename(filepath.Join(s.cfg.build(), "data.cdb"), filepath.Join(s.cfg.root(), "data.cdb")); err != nil {
		return fmt.Errorf("replace data.cdb: %w", err)
	}
	now := time.Now().UnixMilli()
	first := len(s.in) == 0
	for i, c := range in {
		built[i].Since = now
		c.built, c.content = built[i], contents[i]
	}
	for _, c := range s.in {
		if !slices.Contains(in, c) { // answered no more
			c.built = tree.HostDataset{}
			s.sayOf(c)
			s.log.Info("dataset carried no more", "dataset", c.dataset)
		}
	}
	s.in = in
	s.mu.Lock()
	for i, c := range in {
		c.version = built[i].Version
	}
	before := s.state.Unsaid
	s.state.Lines, s.state.Unsaid = report.Lines, count(unsaid)
	after := s.state.Unsaid
	s.mu.Unlock()
	s.metrics.took.Observe(time.Since(began).Seconds())
	if first || summary(before) != summary(after) {
		s.log.Warn("tinydns cannot say all of the dataset", "version", version, "records", report.Lines, "why", summary(after), "file", filepath.Join(s.cfg.Dir, "unsaid.txt"))
	}
	return nil
}

// answered gives the datasets as they are answered, and looks at them.
func (s *survey) answered(all []*snapshot.Dataset) iter.Seq[record.Set] {
	return func(yield func(record.Set) bool) {
		for r := range union(all, func(r *record.RRset, by string) { s.note(Beside, r.Key, "answered from "+by) }) {
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
	for _, c := range s.in {
		s.sayOf(c)
	}
}

func (s *Server) sayOf(c *carried) {
	version := c.built.Version
	if s.cfg.Start && s.process().Pid == 0 {
		version = 0
	}
	if version == c.said {
		return
	}
	var err error
	if version == 0 {
		err = serving.Remove(c.statusDir)
	} else {
		err = serving.Write(c.statusDir, c.built)
	}
	if err != nil {
		s.log.Warn("status file not written; the fleet will believe this host is behind", "dataset", c.dataset, "error", err)
		return
	}
	c.said = version
}
