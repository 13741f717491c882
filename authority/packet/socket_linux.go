package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

func listenTCP(a netip.AddrPort) (*net.TCPListener, error) {
	l, err := net.ListenTCP("tcp"+family(a), net.TCPAddrFromAddrPort(a))
	if err != nil {
		return nil, err
	}
	return l, nil
}

// listenUDP binds one of several sockets to a. Bound to a wildcard address it asks
// for the address each datagram was sent to.
func listenUDP(a netip.AddrPort) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			if failed != nil || !a.Addr().IsUnspecified() {
				return
			}
			if a.Addr().Is4() {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			} else {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
		})
		return errors.Join(err, failed)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp"+family(a), a.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// family keeps [::] from taking IPv4, too: who wants both says both.
func family(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "4"
	}
	return "6"
}

// controlSize is room for one IP_PKTINFO or IPV6_PKTINFO message:
//
//	cmsghdr      16   u64 length, u32 level, u32 type; native byte order
//	in_pktinfo   12   u32 interface, 4 local address to use, 4 address in the header
//	in6_pktinfo  20   16 address, u32 interface
//
// padded to 8.
const controlSize = 40

const (
	controlHeader = 16
	pktinfo4      = 12
	pktinfo6      = 20
)

// replyControl turns the control message of a datagram into that of its reply, in
// place: the same local address, but the interface that the routes choose - except
// for link-local addresses, which mean nothing without theirs. It is empty when
// there was none.
func replyControl(oob []byte) []byte {
	if len(oob) < controlHeader {
		return nil
	}
	size := binary.NativeEndian.Uint64(oob)
	level := binary.NativeEndian.Uint32(oob[8:])
	kind := binary.NativeEndian.Uint32(oob[12:])
	data := oob[controlHeader:]
	switch {
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && size == controlHeader+pktinfo4 && len(data) >= pktinfo4:
		clear(data[:4])
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && size == controlHeader+pktinfo6 && len(data) >= pktinfo6:
		if !netip.AddrFrom16([16]byte(data)).IsLinkLocalUnicast() {
			clear(data[16:20])
		}
	default:
		return nil
	}
	return oob
}

// explain says what is in the way; which option to change is the caller's to say.
func explain(a netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("address %s is in use by another server: %w", a, err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("port %d may not be bound by this user: ports below 1024 need root or the capability CAP_NET_BIND_SERVICE: %w", a.Port(), err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("no interface of this machine has the address %s: %w", a.Addr(), err)
	}
	return err
}
