package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The hand-over between two processes, over a unix socket that only their user may
// open:
//
//	successor                          predecessor
//	   connects ─────────────────────►    checks the user
//	   ◄───────────── one message a socket: {"network", "address"} and the descriptor
//	   ◄───────────── {"network": ""}: that was all
//	   reads from them, then
//	   one octet ────────────────────►    stops reading, ends what it is at
//
// Both have the same sockets until then: what is in them is read by one or the other.
// A successor that dies before its octet changes nothing.

// handOverTime bounds each step of the hand-over.
const handOverTime = 10 * time.Second

// parcel describes the descriptor beside it.
type parcel struct {
	Network string `json:"network"` // udp, tcp, or "": the end
	Address string `json:"address"`
}

// takeOver asks a predecessor for its sockets; none when there is none.
func (s *Server) takeOver() (given []handed, err error) {
	if s.config.HandOver == "" {
		return nil, nil
	}
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: s.config.HandOver, Net: "unixpacket"})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil // nobody, or one that is dead
	}
	if err != nil {
		return nil, fmt.Errorf("ask the predecessor for its sockets: %w", err)
	}
	given, err = receiveSockets(c)
	if err != nil {
		for _, h := range given {
			err = errors.Join(err, h.close())
		}
		return nil, errors.Join(fmt.Errorf("take sockets over from the predecessor at %s: %w", s.config.HandOver, err), c.Close())
	}
	s.before = c
	return given, nil
}

func receiveSockets(c *net.UnixConn) (given []handed, err error) {
	if err := c.SetDeadline(time.Now().Add(handOverTime)); err != nil {
		return nil, err
	}
	at := map[netip.AddrPort]int{}
	body, control := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
	for {
		n, k, _, _, err := c.ReadMsgUnix(body, control)
		if err != nil {
			return given, err
		}
		var p parcel
		if err := json.Unmarshal(body[:n], &p); err != nil {
			return given, err
		}
		if p.Network == "" {
			return given, nil
		}
		fd, err := descriptor(control[:k])
		if err != nil {
			return given, err
		}
		a, err := netip.ParseAddrPort(p.Address)
		if err != nil {
			return given, errors.Join(err, unix.Close(fd))
		}
		i, ok := at[a]
		if !ok {
			i = len(given)
			at[a] = i
			given = append(given, handed{addr: a, tcp: -1})
		}
		if p.Network == "tcp" && given[i].tcp < 0 {
			given[i].tcp = fd
		} else {
			given[i].udp = append(given[i].udp, fd)
		}
	}
}

func descriptor(control []byte) (int, error) {
	ms, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1, err
	}
	if len(ms) != 1 {
		return -1, fmt.Errorf("%d control messages, expected one", len(ms))
	}
	fds, err := unix.ParseUnixRights(&ms[0])
	if err != nil {
		return -1, err
	}
	if len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors, expected one", len(fds))
	}
	unix.CloseOnExec(fds[0])
	return fds[0], nil
}

// announce tells the predecessor that this process reads, and waits for successors.
func (s *Server) announce() (*net.UnixListener, error) {
	if s.before != nil {
		err := s.before.SetDeadline(time.Now().Add(handOverTime))
		if err == nil {
			_, err = s.before.Write([]byte{1})
		}
		if err == nil {
			// It closes when it has stopped reading and given its place up.
			_, err = s.before.Read(make([]byte, 1))
		}
		if cerr := s.before.Close(); cerr != nil {
			s.log.Warn("predecessor's socket not closed", "error", cerr)
		}
		s.before = nil
		if err != nil {
			s.log.Info("predecessor is gone", "error", err)
		}
	}
	if err := os.Remove(s.config.HandOver); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("wait for a successor: %w", err)
	}
	old := unix.Umask(0o177)
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.config.HandOver, Net: "unixpacket"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("wait for a successor: %w", err)
	}
	// The successor puts its own in this place: closing ours must not remove that.
	ln.SetUnlinkOnClose(false)
	return ln, nil
}

// handOver gives the sockets to whoever comes, until one says that it reads from them.
func (s *Server) handOver(ctx context.Context, ln *net.UnixListener, cancel context.CancelCauseFunc) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			return // closed: the server stops
		}
		err = s.give(c)
		if err != nil {
			s.log.Warn("sockets not handed over; this process goes on", "error", err)
			c.Close()
			continue
		}
		ln.Close()
		s.log.Info("sockets handed over to a successor")
		cancel(ErrHandedOver)
		c.Close()
		return
	}
}

// give sends the sockets and waits until the successor reads from them.
func (s *Server) give(c *net.UnixConn) error {
	if err := samePeer(c); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(handOverTime)); err != nil {
		return err
	}
	for _, u := range s.udp {
		if err := sendSocket(c, "udp", u.addr, u.fd); err != nil {
			return err
		}
	}
	for i, l := range s.tcp {
		// Not by File, whose descriptor would make this one blocking.
		raw, err := l.SyscallConn()
		if err != nil {
			return err
		}
		var failed error
		err = raw.Control(func(fd uintptr) { failed = sendSocket(c, "tcp", s.addrs[i], int(fd)) })
		if err := errors.Join(err, failed); err != nil {
			return err
		}
	}
	if _, err := c.Write([]byte(`{"network":""}`)); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

func sendSocket(c *net.UnixConn, network string, a netip.AddrPort, fd int) error {
	b, err := json.Marshal(parcel{network, a.String()})
	if err != nil {
		return err
	}
	_, _, err = c.WriteMsgUnix(b, unix.UnixRights(fd), nil)
	return err
}

// samePeer refuses processes of other users.
func samePeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if int(cred.Uid) != os.Getuid() && cred.Uid != 0 {
		return fmt.Errorf("process %d of user %d asks for the sockets, expected user %d or root", cred.Pid, cred.Uid, os.Getuid())
	}
	return nil
}
