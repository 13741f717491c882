package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sockets are those of one address.
type sockets struct {
	addr netip.AddrPort
	udp  []int
	tcp  int // -1: none
}

// open binds what is missing: one TCP socket and workers UDP sockets. There may be
// more of the latter than that, from a predecessor: each may have queries in it.
func (k sockets) open(workers int) (sockets, error) {
	const attempts = 20 // only for port 0: the port free for TCP may be taken for UDP
	for i := 1; ; i++ {
		got := k
		err := got.bind(workers)
		if err == nil {
			return got, nil
		}
		err = errors.Join(err, got.close())
		if k.addr.Port() != 0 || i == attempts {
			return k, &net.OpError{Op: "listen", Addr: net.TCPAddrFromAddrPort(k.addr), Err: explain(k.addr, err)}
		}
	}
}

// bind begins with TCP: without SO_REUSEPORT it notices another server of this kind,
// which the shared UDP sockets would not.
func (k *sockets) bind(workers int) (err error) {
	if k.tcp < 0 {
		if k.tcp, k.addr, err = listenTCP(k.addr); err != nil {
			return fmt.Errorf("tcp: %w", err)
		}
	}
	for len(k.udp) < workers {
		fd, err := listenUDP(k.addr)
		if err != nil {
			return fmt.Errorf("udp: %w", err)
		}
		k.udp = append(k.udp, fd)
	}
	return nil
}

func (k sockets) close() error {
	var errs []error
	for _, fd := range k.udp {
		errs = append(errs, unix.Close(fd))
	}
	if k.tcp >= 0 {
		errs = append(errs, unix.Close(k.tcp))
	}
	return errors.Join(errs...)
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
