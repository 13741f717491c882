package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

const (
	// maxSocketPath is the longest path of a unix socket, in octets: sun_path of
	// unix(7) without its final zero.
	maxSocketPath = 107
	// startTimeout bounds a start; replaying a log of gigabytes takes minutes.
	startTimeout = 10 * time.Minute
	// lockPatience is how long a start waits for the directory's last user to end: a
	// child whose parent was killed has up to stopGrace.
	lockPatience = stopGrace
	// logPatience is how long a server that leads may take to write one entry.
	logPatience = 5 * time.Second
	// defragAtStart, in MiB: when a start could give back as much, it does. Later the
	// freed pages are used again and the file does not grow; to shrink it would stop
	// all writes meanwhile.
	defragAtStart = 100
)

// memberURL is what the member is called in its own list of members. Nothing
// listens there: a server of one has no peers. It is stored in the data directory
// at the first start and must not change.
const memberURL = "http://localhost:1"

// ServerConfig says where the server keeps its data and listens.
type ServerConfig struct {
	// Dir is the data directory, made when missing. One server at a time uses it.
	Dir string
	// Listen is the path of a unix socket, starting with a slash, or a loopback
	// address and port: whoever reaches it may do everything.
	Listen string
	// Log is told of errors of etcd, and of its warnings at debug level. Nil discards.
	Log *slog.Logger
}

// Validate tells what is wrong with the configuration, or nil.
func (c ServerConfig) Validate() error {
	if c.Dir == "" {
		return errors.New("store directory is missing")
	}
	_, err := c.listenURL()
	return err
}

func (c ServerConfig) listenURL() (*url.URL, error) {
	if strings.HasPrefix(c.Listen, "/") {
		if len(c.Listen) > maxSocketPath {
			return nil, fmt.Errorf("store socket %s has a path of %d octets, at most %d: choose a shorter one", c.Listen, len(c.Listen), maxSocketPath)
		}
		return &url.URL{Scheme: "unix", Path: c.Listen}, nil
	}
	at, err := netip.ParseAddrPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("store listen address %q, expected the absolute path of a unix socket or an address such as 127.0.0.1:2379: %w", c.Listen, err)
	}
	if !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("store listen address %s is not on loopback: the embedded store asks nobody who they are, use an etcd cluster of its own beyond one machine", at)
	}
	return &url.URL{Scheme: "http", Host: at.String()}, nil
}

// Serve runs an etcd server of one member in this process until ctx ends. It may
// end the process when the disk fails under it; see the package.
func Serve(ctx context.Context, cfg ServerConfig) error {
	return serve(ctx, cfg, defaultUpkeep())
}

func serve(ctx context.Context, cfg ServerConfig, up upkeep) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lock, err := claim(ctx, cfg.Dir, lockPatience)
	if err != nil {
		return err
	}
	defer lock.Close()
	listen, err := cfg.listenURL()
	if err != nil {
		return err
	}
	if err := probe(cfg.Dir, cfg.Listen); err != nil {
		return err
	}
	ecfg := embedded(ctx, cfg, *listen, up.quota, log)
	var conns connections
	ecfg.ServiceRegister = conns.add
	e, err := start(ctx, ecfg, cfg.Dir)
	if err != nil {
		return err
	}
	defer e.Close()
	defer conns.cut()
	if err := sign(lock, readyMark); err != nil {
		return fmt.Errorf("store in %s: %w: %s", cfg.Dir, err, hintFor(err.Error(), cfg.Dir))
	}
	log.Info("store serves", "dir", cfg.Dir, "listen", cfg.Listen)
	if err := maintain(ctx, e, up, log); err != nil {
		return fmt.Errorf("store in %s: %w", cfg.Dir, err)
	}
	return nil
}

// connections are the gRPC servers that hold the clients' connections. etcd's
// Close waits 7 s for clients to leave by themselves, which watches never do.
type connections struct {
	mu      sync.Mutex // guards below
	servers []*grpc.Server
}

func (c *connections) add(s *grpc.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = append(c.servers, s)
}

func (c *connections) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		s.Stop()
	}
}

// embedded is etcd's configuration.
func embedded(ctx context.Context, cfg ServerConfig, listen url.URL, quota int64, log *slog.Logger) *embed.Config {
	c := embed.NewConfig()
	c.Name = "zonecast"
	c.Dir = filepath.Join(cfg.Dir, "etcd")
	member, err := url.Parse(memberURL)
	if err != nil {
		panic(err) // a constant
	}
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{*member}
	c.ListenClientUrls = []url.URL{listen}
	c.AdvertiseClientUrls = []url.URL{*member} // asked for only by clients that sync, ours do not
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.QuotaBackendBytes = quota
	c.EnableGRPCGateway = false
	c.BootstrapDefragThresholdMegabytes = defragAtStart
	// Watches of quiet prefixes keep up with the revision, so that a reconnection
	// seldom falls behind the compaction (see upkeep).
	c.WatchProgressNotifyInterval = 30 * time.Second
	c.GRPCKeepAliveMinTime = time.Second
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(ctx, log, cfg.Dir))
	return c
}

// start starts etcd and waits until it answers. A panic of a start that finds its
// files broken becomes an error.
func start(ctx context.Context, c *embed.Config, dir string) (e *embed.Etcd, err error) {
	defer func() {
		if p := recover(); p != nil {
			if bug, ok := p.(runtime.Error); ok {
				p = fmt.Sprintf("etcd stumbled over what it read (%v)", bug)
			}
			e, err = nil, damaged(dir, fmt.Errorf("%v", p))
		}
	}()
	e, err = embed.StartEtcd(c)
	if err != nil {
		return nil, damaged(dir, err)
	}
	if err := await(ctx, e, dir); err != nil {
		e.Close()
		return nil, fmt.Errorf("start store in %s: %w", dir, err)
	}
	return e, nil
}

// await waits until the server answers.
//
// When etcd finds damage in its log it cuts the log off there, quietly. Then the
// log ends before what the database has applied already, and etcd would ignore as
// many new changes, without an answer, until the log is as long as it was. A
// healthy server of one member commits an entry as soon as it leads, so that its
// log is never behind the database for longer than a write takes.
func await(ctx context.Context, e *embed.Etcd, dir string) error {
	applied, _ := schema.ReadConsistentIndex(e.Server.Backend().ReadTx())
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var led time.Time
	for {
		select {
		case <-e.Server.ReadyNotify():
			return nil
		case err := <-e.Err():
			return err
		case <-e.Server.StopNotify():
			return errors.New("the server stopped while starting")
		case <-timeout.C:
			return fmt.Errorf("not ready after %s", startTimeout)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if e.Server.Leader() == 0 {
			continue
		}
		if led.IsZero() {
			led = time.Now()
		}
		if committed := e.Server.CommittedIndex(); committed < applied && time.Since(led) > logPatience {
			// Close would hang: it waits for changes that never get through.
			exit(dir, fmt.Sprintf("the log ends at entry %d, the database is at entry %d", committed, applied), nil)
		}
	}
}

// damaged adds to the cause of a failed start what to do about it.
func damaged(dir string, err error) error {
	err = fmt.Errorf("start store in %s: %w", dir, err)
	if hint := hintFor(err.Error(), dir); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

// hintFor says what to do about an error of etcd by its text, which is all there is
// of it in a log entry or a panic.
func hintFor(text, dir string) string {
	for cause, hint := range map[error]string{
		syscall.ENOSPC:  "free space there; nothing acknowledged is lost, and the store goes on when there is room",
		syscall.EDQUOT:  "raise the quota of the user that runs it; nothing acknowledged is lost",
		syscall.EROFS:   "the file system is read-only: remount it writable",
		syscall.EACCES:  "make it writable for the user that runs the store",
		syscall.ENOTDIR: "choose another directory, or move away the file that is in its place",
		syscall.EIO:     "the disk fails: move the directory to another one",
		syscall.EMFILE:  "raise the limit of open files (ulimit -n)",
	} {
		if strings.Contains(text, cause.Error()) {
			return hint
		}
	}
	if strings.Contains(text, "address already in use") {
		return "another process listens there: stop it or choose another address"
	}
	return "the data directory is damaged: keep a copy of " + dir + ", then put back a backup, or move the directory away to start empty (docs/store.md)"
}

// lockName is the file in the data directory that its user holds locked. It says
// who that is: "<pid>\n", and once it serves "<pid> ready\n".
const (
	lockName  = "lock"
	readyMark = " ready"
)

// claim makes the directory and takes the lock that keeps a second server out of
// it, for which it waits up to patience. etcd's own lock makes a second server wait
// for ever, without a word.
func claim(ctx context.Context, dir string, patience time.Duration) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make store directory: %w: %s", err, hintFor(err.Error(), dir))
	}
	if err := os.Chmod(dir, 0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("protect store directory: %w: %s", err, hintFor(err.Error(), dir))
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock store directory: %w: %s", err, hintFor(err.Error(), dir))
	}
	deadline := time.Now().Add(patience)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			f.Close()
			owner, _ := owner(dir)
			return nil, fmt.Errorf("store directory %s is in use by another process (%s is locked by pid %d): stop that one or choose another directory", dir, path, owner)
		}
		pause(ctx, 50*time.Millisecond)
	}
	if err := sign(f, ""); err != nil {
		f.Close()
		return nil, fmt.Errorf("write in store directory: %w: %s", err, hintFor(err.Error(), dir))
	}
	return f, nil
}

// sign writes who holds the lock.
func sign(lock *os.File, mark string) error {
	_, err := lock.WriteAt(fmt.Appendf(nil, "%d%s\n", os.Getpid(), mark), 0)
	if err == nil {
		err = lock.Truncate(int64(len(fmt.Sprintf("%d%s\n", os.Getpid(), mark))))
	}
	return err
}

// owner reads who holds, or held, the directory, and whether it was ready; 0 when
// there is nobody to read of.
func owner(dir string) (pid int, ready bool) {
	b, err := os.ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		return 0, false
	}
	text, ready := strings.CutSuffix(strings.TrimSuffix(string(b), "\n"), readyMark)
	pid, err = strconv.Atoi(text)
	if err != nil {
		return 0, false
	}
	return pid, ready
}

// probe finds what etcd would say badly, or not at all.
func probe(dir, listen string) error {
	f, err := os.CreateTemp(dir, "probe-*")
	if err == nil {
		// etcd needs more, but a disk that takes not even this is full.
		_, err = f.Write(make([]byte, 64<<10))
		err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		return fmt.Errorf("write in store directory: %w: %s", err, hintFor(err.Error(), dir))
	}
	if !strings.HasPrefix(listen, "/") {
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return fmt.Errorf("store %w: %s", err, hintFor(err.Error(), dir))
		}
		return l.Close()
	}
	// etcd removes whatever is at the socket's path: not if it is alive or a file.
	switch info, err := os.Lstat(listen); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("store socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("store socket %s: there is a file that is no socket (%s): choose another path", listen, info.Mode())
	}
	c, err := net.DialTimeout("unix", listen, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("store socket %s is in use by another process: stop it or choose another path", listen)
	}
	return nil
}
