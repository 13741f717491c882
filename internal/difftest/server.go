package difftest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Program is a DNS server that others wrote, as Debian packages it.
type Program struct {
	Name    string
	Package string
	// config writes its configuration: files of dir, its own files in work.
	config func(dir string, zones []Zone, port uint16, work string) string
	args   func(conf string) []string
}

// Path is where the program is; an error when it is not installed.
func (p Program) Path() (string, error) {
	path, err := exec.LookPath(p.Name)
	if err != nil { // Debian has it in a directory that is not in everybody's PATH
		path, err = exec.LookPath("/usr/sbin/" + p.Name)
	}
	if err != nil {
		return "", fmt.Errorf("find %s (Debian package %s): %w", p.Name, p.Package, err)
	}
	return path, nil
}

// Server is a running Program.
type Server struct {
	Name string
	Addr netip.AddrPort
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // why it ended; read after done
	log  string
}

// StartNamed is Start of Named.
func StartNamed(ctx context.Context, dir string, zones []Zone, port uint16, work string) (*Server, error) {
	return Start(ctx, Named(), dir, zones, port, work)
}

// Start starts the program with the zone files of dir on a loopback port (0: one
// that is free), its own files in work, and waits until it answers for every zone.
func Start(ctx context.Context, p Program, dir string, zones []Zone, port uint16, work string) (*Server, error) {
	path, err := p.Path()
	if err != nil {
		return nil, err
	}
	if port == 0 {
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("find zone files: %w", err)
	}
	conf := filepath.Join(work, p.Name+".conf")
	if err := os.WriteFile(conf, []byte(p.config(dir, zones, port, work)), 0o644); err != nil {
		return nil, fmt.Errorf("write configuration of %s: %w", p.Name, err)
	}
	s := &Server{
		Name: p.Name, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
		done: make(chan struct{}), log: filepath.Join(work, p.Name+".log"),
	}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, fmt.Errorf("create log of %s: %w", p.Name, err)
	}
	defer log.Close()
	s.cmd = exec.Command(path, p.args(conf)...)
	s.cmd.Dir = work
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Pdeathsig is about the thread that forks: it must live as long as the process.
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.err = s.cmd.Wait()
			close(s.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	if err := s.ready(ctx, zones); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// ready waits up to half a minute for each zone's SOA, and asks over TCP once.
func (s *Server) ready(ctx context.Context, zones []Zone) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := newClient(s.Addr)
	if err != nil {
		return err
	}
	defer c.close()
	for _, z := range zones {
		for {
			r, err := c.askOnce(Question{Name: z.Apex, Type: record.TypeSOA})
			if err == nil && r.aa && len(r.answer) == 1 {
				break
			}
			select {
			case <-s.done:
				return fmt.Errorf("%s ended (%v) before it answered, its log ends in:\n%s", s.Name, s.err, s.tail())
			case <-ctx.Done():
				return fmt.Errorf("%s does not answer for %s (%v), its log ends in:\n%s", s.Name, z.Apex, err, s.tail())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	if len(zones) == 0 {
		return nil
	}
	_, err = c.ask(ctx, Question{Name: zones[0].Apex, Type: record.TypeSOA, Via: TCP})
	return err
}

func (s *Server) tail() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// Stop ends the server and waits for its end.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", s.Name, err)
	}
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-s.done
	}
	return nil
}

// freePort is a port that is free for UDP and TCP: a server that gets one of them
// alone may start nevertheless.
func freePort() (uint16, error) {
	var last error
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		port := l.Addr().(*net.TCPAddr).AddrPort()
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(port))
		if last = errors.Join(err, l.Close()); err == nil {
			return port.Port(), c.Close()
		}
	}
	return 0, fmt.Errorf("find a port that is free for UDP and TCP: %w", last)
}
