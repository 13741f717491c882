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

// backlog is how many connections wait to be accepted, as far as net.core.somaxconn
// lets them.
const backlog = 4096

// listenTCP tells the address, whose port the kernel may have chosen.
func listenTCP(a netip.AddrPort) (fd int, bound netip.AddrPort, err error) {
	domain := unix.AF_INET
	if a.Addr().Is6() {
		domain = unix.AF_INET6
	}
	to, err := sockaddr(a)
	if err != nil {
		return -1, a, err
	}
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, a, err
	}
	// Connections of an earlier process that are not quite closed do not matter.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil && domain == unix.AF_INET6 {
		// [::] does not take IPv4, too: who wants both says both.
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, to)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	var self unix.Sockaddr
	if err == nil {
		self, err = unix.Getsockname(fd)
	}
	if err != nil {
		return -1, a, errors.Join(err, unix.Close(fd))
	}
	return fd, netip.AddrPortFrom(a.Addr(), addrPort(self).Port()), nil
}

const (
	// socketBuffer is what the kernel may keep of datagrams that have not been read, in
	// octets, as far as net.core.rmem_max lets it.
	socketBuffer = 4 << 20
	// wakeTime is how often a thread that waits for datagrams looks whether to stop, and
	// how long it waits for room to send.
	wakeTime = 100 * time.Millisecond
)

// listenUDP binds one of several sockets to a. Bound to a wildcard address it asks
// for the address each datagram was sent to.
func listenUDP(a netip.AddrPort) (fd int, err error) {
	domain, level := unix.AF_INET, unix.IPPROTO_IP
	if a.Addr().Is6() {
		domain, level = unix.AF_INET6, unix.IPPROTO_IPV6
	}
	to, err := sockaddr(a)
	if err != nil {
		return -1, err
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
	// Fragments can be forged and get lost, so none leave (RFC 9715 §3.1): what does not
	// fit the interface, or a path of which ICMP has told, is refused with EMSGSIZE. Who
	// forges that ICMP makes one client come back over TCP, no more.
	if level == unix.IPPROTO_IP {
		set(level, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		if a.Addr().IsUnspecified() {
			set(level, unix.IP_PKTINFO, 1)
		}
	} else {
		set(level, unix.IPV6_V6ONLY, 1)
		set(level, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		if a.Addr().IsUnspecified() {
			set(level, unix.IPV6_RECVPKTINFO, 1)
		}
	}
	if err == nil {
		tv := unix.NsecToTimeval(int64(wakeTime))
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		if err == nil {
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
		}
	}
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if err == nil && unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], socketBuffer) != nil {
			set(unix.SOL_SOCKET, o[1], socketBuffer) // not root: as much as is allowed
		}
	}
	if err == nil {
		err = unix.Bind(fd, to)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) (unix.Sockaddr, error) {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
	}
	to := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if zone := a.Addr().Zone(); zone != "" {
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, fmt.Errorf("interface %q of the address: %w", zone, err)
		}
		to.ZoneId = uint32(i.Index)
	}
	return to, nil
}

// addrPort is invalid for what is no address of the internet.
func addrPort(s unix.Sockaddr) netip.AddrPort {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), uint16(s.Port))
	}
	return netip.AddrPort{}
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
