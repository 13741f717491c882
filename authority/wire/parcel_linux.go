package wire

import (
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

// parcel describes the descriptor beside it.
type parcel struct {
	Network string `json:"network"` // udp, tcp, or "": the end
	Address string `json:"address"`
}

func sendSocket(c *net.UnixConn, network string, a netip.AddrPort, fd int) error {
	b, err := json.Marshal(parcel{network, a.String()})
	if err != nil {
		return err
	}
	_, _, err = c.WriteMsgUnix(b, unix.UnixRights(fd), nil)
	return err
}

func sendEnd(c *net.UnixConn) error {
	b, err := json.Marshal(parcel{})
	if err != nil {
		return err
	}
	_, err = c.Write(b)
	return err
}

// receiveSockets gives what has come even with an error.
func receiveSockets(c *net.UnixConn) (given []sockets, err error) {
	if err := c.SetDeadline(time.Now().Add(handOverTime)); err != nil {
		return nil, err
	}
	for {
		p, fd, err := receiveParcel(c)
		if err != nil {
			return given, err
		}
		if p.Network == "" {
			return given, c.SetDeadline(time.Time{})
		}
		a, err := netip.ParseAddrPort(p.Address)
		if err != nil {
			return given, errors.Join(err, unix.Close(fd))
		}
		given = place(given, a)
		for i := range given {
			if k := &given[i]; k.addr != a {
				continue
			} else if p.Network == "udp" {
				k.udp = append(k.udp, fd)
			} else if k.tcp < 0 {
				k.tcp = fd
			} else {
				return given, errors.Join(fmt.Errorf("two sockets for %s %s, expected one", p.Network, a), unix.Close(fd))
			}
		}
	}
}

// place makes one for a unless there is one.
func place(all []sockets, a netip.AddrPort) []sockets {
	for _, k := range all {
		if k.addr == a {
			return all
		}
	}
	return append(all, sockets{addr: a, tcp: -1})
}

// receiveParcel gives no descriptor with the end.
func receiveParcel(c *net.UnixConn) (p parcel, fd int, err error) {
	body, control := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
	n, k, _, _, err := c.ReadMsgUnix(body, control)
	if err != nil {
		return p, -1, err
	}
	fds, err := descriptors(control[:k])
	if err == nil {
		err = json.Unmarshal(body[:n], &p)
	}
	want := 1
	if p.Network == "" {
		want = 0
	}
	if err == nil && len(fds) != want {
		err = fmt.Errorf("%d descriptors with %q, expected %d", len(fds), body[:n], want)
	}
	if err != nil {
		for _, fd := range fds {
			err = errors.Join(err, unix.Close(fd))
		}
		return p, -1, err
	}
	if want == 0 {
		return p, -1, nil
	}
	return p, fds[0], nil
}

func descriptors(control []byte) (fds []int, err error) {
	ms, err := unix.ParseSocketControlMessage(control)
	for i := range ms {
		got, perr := unix.ParseUnixRights(&ms[i])
		fds, err = append(fds, got...), errors.Join(err, perr)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, err
}

// listenUnix puts a socket at path in the place of what may be left of an earlier
// process. Until nobody but the user may open it nobody can connect.
func listenUnix(path string) (_ *net.UnixListener, err error) {
	if i, err := os.Lstat(path); err == nil && i.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("%s is no socket, expected one or nothing", path)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { err = errors.Join(err, f.Close()) }()
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: made}); err != nil {
		return nil, fmt.Errorf("bind %s: %w", made, err)
	}
	err = unix.Chmod(made, 0o600)
	if err == nil {
		err = unix.Listen(fd, 8)
	}
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(made))
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
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
		return fmt.Errorf("process %d of user %d at the other end, expected user %d or root", cred.Pid, cred.Uid, os.Getuid())
	}
	return nil
}
