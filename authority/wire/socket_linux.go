package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

func listenTCP(a netip.AddrPort) (*net.TCPListener, error) {
	return net.ListenTCP("tcp"+family(a), net.TCPAddrFromAddrPort(a))
}

// family keeps [::] from taking IPv4, too: who wants both says both.
func family(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "4"
	}
	return "6"
}

const (
	// socketBuffer is what the kernel may keep of datagrams that have not been read, in
	// octets, as far as net.core.rmem_max lets it.
	socketBuffer = 4 << 20
	// wake is how often a thread that waits for datagrams looks whether to stop.
	wake = 100 * time.Millisecond
)

// listenUDP binds one of several sockets to a. Bound to a wildcard address it asks
// for the address each datagram was sent to.
func listenUDP(a netip.AddrPort) (fd int, err error) {
	domain, level := unix.AF_INET, unix.IPPROTO_IP
	if a.Addr().Is6() {
		domain, level = unix.AF_INET6, unix.IPPROTO_IPV6
	}
	fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	set := func(level, option, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, option, value)
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	// No fragments leave, and no ICMP message makes the kernel change its mind about
	// the path: the MTU of the interface counts (RFC 8085 §3.2; what BIND and Unbound do).
	if level == unix.IPPROTO_IP {
		set(level, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		if a.Addr().IsUnspecified() {
			set(level, unix.IP_PKTINFO, 1)
		}
	} else {
		set(level, unix.IPV6_V6ONLY, 1)
		set(level, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
		if a.Addr().IsUnspecified() {
			set(level, unix.IPV6_RECVPKTINFO, 1)
		}
	}
	if err == nil {
		tv := unix.NsecToTimeval(int64(wake))
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	}
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if err == nil && unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], socketBuffer) != nil {
			set(unix.SOL_SOCKET, o[1], socketBuffer) // not root: as much as is allowed
		}
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(a))
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	s := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if zone := a.Addr().Zone(); zone != "" {
		if i, err := net.InterfaceByName(zone); err == nil {
			s.ZoneId = uint32(i.Index)
		}
	}
	return s
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
func replyControl(oob []byte) (reply []byte, local netip.Addr) {
	if len(oob) < controlHeader {
		return nil, netip.Addr{}
	}
	size := binary.NativeEndian.Uint64(oob)
	level := binary.NativeEndian.Uint32(oob[8:])
	kind := binary.NativeEndian.Uint32(oob[12:])
	data := oob[controlHeader:]
	switch {
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && size == controlHeader+pktinfo4 && len(data) >= pktinfo4:
		clear(data[:4])
		local = netip.AddrFrom4([4]byte(data[8:]))
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && size == controlHeader+pktinfo6 && len(data) >= pktinfo6:
		local = netip.AddrFrom16([16]byte(data))
		if !local.IsLinkLocalUnicast() {
			clear(data[16:20])
		}
	default:
		return nil, netip.Addr{}
	}
	return oob, local
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
