package zktest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// jar is the library of Debian's package zookeeper.
	jar = "/usr/share/java/zookeeper.jar"
	// startTimeout bounds a start: about 2 s of a Java machine, many times that when
	// the machine is busy.
	startTimeout = 2 * time.Minute
	// Tick is the servers' unit of time: sessions are of 2 to 20 ticks.
	Tick = 500 * time.Millisecond
)

// Installed tells what is missing, or nil.
func Installed() error {
	if _, err := exec.LookPath("java"); err != nil {
		return fmt.Errorf("java is not there (Debian's default-jre-headless): %w", err)
	}
	if _, err := os.Stat(jar); err != nil {
		return fmt.Errorf("ZooKeeper is not there (Debian's zookeeper): %w", err)
	}
	return nil
}

// Server is one server, alone or of an ensemble.
type Server struct {
	Address string // of clients
	config  string
	dir     string
	extra   []string // arguments of java
	cmd     *exec.Cmd
	exited  chan struct{} // closed when cmd has ended
}

// Start starts a server alone, with its files in dir, and waits until it answers.
// extra are arguments of java, such as -Djute.maxbuffer=100000.
func Start(dir string, extra ...string) (*Server, error) {
	servers, err := configure(dir, 1, extra)
	if err != nil {
		return nil, err
	}
	return servers[0], servers[0].Restart()
}

// StartEnsemble starts n servers that are one ensemble, and waits until all answer.
func StartEnsemble(dir string, n int) ([]*Server, error) {
	servers, err := configure(dir, n, nil)
	if err != nil {
		return nil, err
	}
	for _, s := range servers {
		if err := s.launch(); err != nil {
			return servers, err
		}
	}
	for _, s := range servers {
		if err := s.await(); err != nil {
			return servers, err
		}
	}
	return servers, nil
}

func configure(dir string, n int, extra []string) ([]*Server, error) {
	if err := Installed(); err != nil {
		return nil, err
	}
	ports, err := freePorts(3 * n)
	if err != nil {
		return nil, err
	}
	members := ""
	if n > 1 {
		for i := range n {
			members += fmt.Sprintf("server.%d=127.0.0.1:%d:%d\n", i+1, ports[n+2*i], ports[n+2*i+1])
		}
	}
	servers := make([]*Server, n)
	for i := range servers {
		d := filepath.Join(dir, strconv.Itoa(i+1))
		s := &Server{Address: fmt.Sprintf("127.0.0.1:%d", ports[i]), dir: d, config: filepath.Join(d, "zoo.cfg"), extra: extra}
		text := fmt.Sprintf("tickTime=%d\ninitLimit=20\nsyncLimit=10\ndataDir=%s/data\nclientPort=%d\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n"+
			"admin.enableServer=false\n4lw.commands.whitelist=srvr,mntr\n%s", Tick.Milliseconds(), d, ports[i], members)
		if err := os.MkdirAll(filepath.Join(d, "data"), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(d, "data", "myid"), []byte(strconv.Itoa(i+1)), 0o600); err != nil {
			return nil, err
		}
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		servers[i] = s
	}
	return servers, nil
}

// freePorts are TCP ports that were free just now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// Restart starts a server that was killed, with what it had on disk.
func (s *Server) Restart() error {
	if err := s.launch(); err != nil {
		return err
	}
	return s.await()
}

func (s *Server) launch() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{
		"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dzookeeper.log.dir=" + s.dir, "-Dzookeeper.forceSync=no",
	}, s.extra...)
	args = append(args, "-cp", "/etc/zookeeper/conf_example:"+jar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", s.config)
	s.cmd = exec.Command("java", args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// Pdeathsig is about the thread that forks: it must live as long as the process.
	cmd, exited, started := s.cmd, make(chan struct{}), make(chan error, 1)
	s.exited = exited
	go func() {
		runtime.LockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // that it was killed
		}
	}()
	if err := <-started; err != nil {
		s.cmd = nil
		return fmt.Errorf("start ZooKeeper: %w", err)
	}
	return nil
}

// await waits until the server serves.
func (s *Server) await() error {
	for deadline := time.Now().Add(startTimeout); ; {
		mode, err := s.Mode()
		if err == nil && mode != "" {
			return nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("ZooKeeper at %s does not serve after %s: %w\n%s", s.Address, startTimeout, err, log[max(0, len(log)-2000):])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Mode is what the server says it is: standalone, leader or follower.
func (s *Server) Mode() (string, error) {
	c, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "srvr"); err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if mode, ok := strings.CutPrefix(lines.Text(), "Mode: "); ok {
			return mode, nil
		}
	}
	return "", errors.New("the server does not say its mode")
}

// Kill ends the server as a power loss does.
func (s *Server) Kill() error {
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
	return err
}

// Wipe takes everything from a server that was killed, but for who it is.
func (s *Server) Wipe() error { return os.RemoveAll(filepath.Join(s.dir, "data", "version-2")) }

// Freeze stops the server without its connections: it accepts and says nothing. Thaw
// lets it go on.
func (s *Server) Freeze() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw is the end of Freeze.
func (s *Server) Thaw() error { return s.cmd.Process.Signal(syscall.SIGCONT) }
