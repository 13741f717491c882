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
	"strings"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Named is a running BIND named.
type Named struct {
	Addr netip.AddrPort
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // why it ended; read after done
	log  string
}

// namedConf answers from zone files and does nothing else. minimal-responses
// no-auth and minimal-any are what zonecast does, too: no NS beside a positive
// answer, one RRset to ANY over UDP.
const namedConf = `options {
	directory "%[1]s"; pid-file "%[1]s/named.pid"; session-keyfile "%[1]s/session.key"; managed-keys-directory "%[1]s";
	listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; notify no; dnssec-validation no; allow-transfer { none; }; empty-zones-enable no; version none; hostname none;
	minimal-responses no-auth; minimal-any yes; answer-cookie no; max-udp-size 1232; querylog no;
	max-records-per-type 0; max-types-per-name 0; zero-no-soa-ttl no;
	check-names primary ignore; check-integrity no; check-mx ignore; check-srv-cname ignore; check-mx-cname ignore; check-sibling no; check-wildcard no;
};
controls { };
`

// StartNamed starts Debian's named with the zone files of dir on a loopback
// port (0: one that is free), its own files in work, and waits until it answers
// for every zone.
func StartNamed(ctx context.Context, dir string, zones []Zone, port uint16, work string) (*Named, error) {
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find zone files: %w", err)
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, namedConf, work, port)
	for _, z := range zones {
		fmt.Fprintf(&conf, "zone %q { type primary; file %q; };\n", z.Apex, filepath.Join(dir, z.File))
	}
	path := filepath.Join(work, "named.conf")
	if err := os.WriteFile(path, []byte(conf.String()), 0o644); err != nil {
		return nil, fmt.Errorf("write configuration of named: %w", err)
	}
	n := &Named{
		Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
		done: make(chan struct{}), log: filepath.Join(work, "named.log"),
	}
	log, err := os.Create(n.log)
	if err != nil {
		return nil, fmt.Errorf("create log of named: %w", err)
	}
	defer log.Close()
	program, err := exec.LookPath("named")
	if err != nil {
		program = "/usr/sbin/named" // where Debian has it, which is not in everybody's PATH
	}
	n.cmd = exec.Command(program, "-g", "-n", "1", "-c", path)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start named (Debian package bind9): %w", err)
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.done)
	}()
	if err := n.ready(ctx, zones); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

// ready waits up to half a minute for each zone's SOA.
func (n *Named) ready(ctx context.Context, zones []Zone) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := newClient(n.Addr)
	if err != nil {
		return err
	}
	defer c.close()
	for _, z := range zones {
		for {
			r, err := c.overUDP(Question{Name: z.Apex, Type: record.TypeSOA}.encode(c.id))
			if err == nil && r.aa && len(r.answer) == 1 {
				break
			}
			select {
			case <-n.done:
				return fmt.Errorf("named ended (%v) before it answered, its log ends in:\n%s", n.err, n.tail())
			case <-ctx.Done():
				return fmt.Errorf("named does not answer for %s (%v), its log ends in:\n%s", z.Apex, err, n.tail())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

func (n *Named) tail() string {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// Stop ends named and waits for its end.
func (n *Named) Stop() error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop named: %w", err)
	}
	select {
	case <-n.done:
	case <-time.After(10 * time.Second):
		n.cmd.Process.Kill()
		<-n.done
	}
	return nil
}

func freePort() (uint16, error) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
}
