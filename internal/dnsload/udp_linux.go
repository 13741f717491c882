package dnsload

import (
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Buffers of a batch lie one odd number of cache lines (64 octets) apart: at a power
// of two their heads would all fall into the same few sets of the first-level cache.
const (
	receiveSize   = 4096 // more than ednsSize, for servers that send what they like
	receiveStride = receiveSize + 64
	sendStride    = 5 * 64
)

// datagrams is UDP by batches. One serves one worker.
type datagrams struct {
	target    netip.AddrPort
	in, out   [batch]mmsghdr
	inv, outv [batch]unix.Iovec
	inb, outb []byte
}

// A query must fit its buffer.
var _ [sendStride - maxQuery]struct{}

func newDatagrams(target netip.AddrPort) *datagrams {
	d := &datagrams{target: target, inb: make([]byte, batch*receiveStride), outb: make([]byte, batch*sendStride)}
	for i := range batch {
		d.inv[i].Base = &d.inb[i*receiveStride]
		d.inv[i].SetLen(receiveSize)
		d.in[i].header.Iov = &d.inv[i]
		d.in[i].header.SetIovlen(1)
		d.outv[i].Base = &d.outb[i*sendStride]
		d.out[i].header.Iov = &d.outv[i]
		d.out[i].header.SetIovlen(1)
	}
	return d
}

func (d *datagrams) open(f *flow) (err error) {
	if f.fd, err = socket(d.target.Addr(), unix.SOCK_DGRAM); err != nil {
		return err
	}
	// Connected, so that answers of others are not taken and refusals are heard.
	if err := unix.Connect(f.fd, sockaddr(d.target)); err != nil {
		return fmt.Errorf("connect to %s: %w", d.target, err)
	}
	return nil
}

func (d *datagrams) ready(*worker, *flow) (bool, error) { return true, nil }

func (d *datagrams) receive(w *worker, f *flow) (bool, error) {
	n, e := recvmmsg(f.fd, d.in[:])
	switch e {
	case 0:
	case syscall.EAGAIN, syscall.EINTR:
		return false, nil
	case syscall.ECONNREFUSED:
		return false, w.refused()
	default:
		return false, fmt.Errorf("receive from %s: %w", d.target, e)
	}
	now := w.clock.now()
	for i := range n {
		w.heard(f, d.inb[i*receiveStride:][:d.in[i].size], now)
	}
	return true, nil
}

func (d *datagrams) send(w *worker, f *flow, n int) (sent int, err error) {
	for i, s := range w.picked[:n] {
		d.outv[i].SetLen(w.put(d.outb[i*sendStride:], s))
	}
	for sent < n {
		k, e := sendmmsg(f.fd, d.out[sent:n])
		switch e {
		case 0:
			sent += k
		case syscall.EINTR:
		case syscall.ECONNREFUSED: // of a query before: this one has not left
			if err := w.refused(); err != nil {
				return sent, err
			}
		case syscall.EAGAIN, syscall.ENOBUFS:
			return sent, nil
		default:
			return sent, fmt.Errorf("send to %s: %w", d.target, e)
		}
	}
	return sent, nil
}

func (d *datagrams) wants(*flow) int16 { return unix.POLLIN }
