package wire

import (
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/authority/protocol"
)

const (
	// batchSize is how many datagrams go by one system call: more gain nothing, and
	// these stay in the nearest cache while they are answered.
	batchSize = 32
	// maxQuery is the room for a UDP query in octets. A larger datagram arrives cut off
	// and is answered as what it then is.
	maxQuery = 4096
	// busy is how many datagrams a call must have brought for the next one not to wait:
	// at low rates a call that finds nothing costs more than sleeping in it.
	busy = 8
	line = 64 // octets of a cache line
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   uint32
}

// udpWorker is one socket's thread and the memory it works on.
type udpWorker struct {
	server   *Server
	fd       uintptr
	wildcard bool

	in, out   [batchSize]mmsghdr
	inVec     [batchSize]unix.Iovec
	outVec    [batchSize]unix.Iovec
	names     [batchSize]unix.RawSockaddrInet6
	control   [batchSize][controlSize]byte
	queries   []byte // batchSize times queryStride
	responses []byte
	stride    int // of responses
	batch     [batchSize]Message
	source    [batchSize]int // of out: which of the batch it answers
	cut       []byte         // a response without records, when one was too large
}

// queryStride and stride are odd numbers of cache lines: as powers of two the
// beginnings of all buffers, which is what is touched, would share a few sets of
// the cache.
const queryStride = maxQuery + 5*line

func oddLines(n int) int {
	lines := (n + line - 1) / line
	return (lines | 1) * line
}

func (s *Server) newUDPWorker(u udpSocket) *udpWorker {
	w := &udpWorker{server: s, fd: uintptr(u.fd), wildcard: u.addr.Addr().IsUnspecified(), stride: oddLines(s.config.MaxUDP)}
	w.queries = make([]byte, batchSize*queryStride)
	w.responses = make([]byte, batchSize*w.stride)
	w.cut = make([]byte, 0, 512)
	for i := range w.in {
		w.inVec[i].Base = &w.queries[i*queryStride]
		w.inVec[i].SetLen(maxQuery)
		h := &w.in[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&w.names[i]))
		h.Iov = &w.inVec[i]
		h.Iovlen = 1
		w.out[i].hdr.Iov = &w.outVec[i]
		w.out[i].hdr.Iovlen = 1
	}
	return w
}

func (s *Server) serveUDP(u udpSocket, stopping *atomic.Bool) {
	// The thread's own: it spends its life in system calls that the scheduler is not
	// told of.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, done := s.newHandler()
	defer done()
	w := s.newUDPWorker(u)
	last := 0
	for !stopping.Load() {
		last = w.step(handle, last)
	}
}

// step receives a batch, has it answered and sends the responses. last is what the
// step before gave: how many datagrams there were.
func (w *udpWorker) step(handle Handler, last int) int {
	n, err := w.receive(last >= busy)
	switch err {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return 0
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return last // what some client's network said of a response
	default:
		w.server.Counters.ReadErrors.Add(1)
		return 0
	}
	for i := range n {
		w.take(i)
	}
	handle.Answer(w.batch[:n], protocol.UDP)
	w.send(w.pack(n))
	return n
}

// receive fills w.in. Without traffic the thread sleeps in it, for wake at most.
func (w *udpWorker) receive(traffic bool) (n int, err syscall.Errno) {
	for i := range w.in {
		h := &w.in[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		if w.wildcard {
			h.Control = &w.control[i][0]
			h.SetControllen(controlSize)
		}
	}
	if traffic {
		r, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, w.fd, uintptr(unsafe.Pointer(&w.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		if e != unix.EAGAIN {
			return int(r), e
		}
	}
	r, _, e := syscall.Syscall6(unix.SYS_RECVMMSG, w.fd, uintptr(unsafe.Pointer(&w.in[0])), batchSize, unix.MSG_WAITFORONE, 0, 0)
	return int(r), e
}

// take makes the i-th message of the batch.
func (w *udpWorker) take(i int) {
	at := i * queryStride
	m := &w.batch[i]
	m.Query = w.queries[at : at+int(w.in[i].len)]
	m.Response = w.responses[i*w.stride : i*w.stride : (i+1)*w.stride]
	n := &w.names[i]
	port := n.Port>>8 | n.Port<<8
	if n.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		m.Client = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	} else {
		m.Client = netip.AddrPortFrom(netip.AddrFrom16(n.Addr), port)
	}
	m.Local = netip.Addr{}
	if w.wildcard {
		var reply []byte
		reply, m.Local = replyControl(w.control[i][:w.in[i].hdr.Controllen])
		w.in[i].hdr.SetControllen(len(reply))
	}
}

// pack makes w.out of the responses to the first n and tells how many there are.
func (w *udpWorker) pack(n int) int {
	k := 0
	for i := range n {
		r := w.batch[i].Response
		if len(r) == 0 {
			continue
		}
		w.outVec[k].Base = &r[0]
		w.outVec[k].SetLen(len(r))
		in, out := &w.in[i].hdr, &w.out[k].hdr
		out.Name, out.Namelen = in.Name, in.Namelen
		out.Control, out.Controllen = nil, 0
		if w.wildcard && in.Controllen > 0 {
			out.Control, out.Controllen = in.Control, in.Controllen
		}
		w.source[k] = i
		k++
	}
	return k
}

// send sends the first n of w.out. One that cannot be sent is counted and does not
// keep the others.
func (w *udpWorker) send(n int) {
	for at := 0; at < n; {
		flags := uintptr(unix.MSG_DONTWAIT)
		sent, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, w.fd, uintptr(unsafe.Pointer(&w.out[at])), uintptr(n-at), flags, 0, 0)
		if e == unix.EAGAIN { // the socket's buffer is full: wait for it
			sent, _, e = syscall.Syscall6(unix.SYS_SENDMMSG, w.fd, uintptr(unsafe.Pointer(&w.out[at])), uintptr(n-at), 0, 0, 0)
		}
		switch e {
		case 0:
			at += int(sent)
		case unix.EINTR:
		case unix.EMSGSIZE:
			w.sendCut(at)
			at++
		default: // no route, no buffer, port 0: the client asks again
			w.server.Counters.WriteErrors.Add(1)
			at++
		}
	}
}

// sendCut sends, instead of a response that the path does not take, one that is
// truncated: header and question with TC.
func (w *udpWorker) sendCut(at int) {
	w.server.Counters.TooLarge.Add(1)
	m := &w.batch[w.source[at]]
	w.cut = protocol.Truncate(w.cut[:0], m.Response)
	if len(w.cut) == 0 {
		return
	}
	w.outVec[at].Base = &w.cut[0]
	w.outVec[at].SetLen(len(w.cut))
	if _, _, e := syscall.Syscall6(unix.SYS_SENDMMSG, w.fd, uintptr(unsafe.Pointer(&w.out[at])), 1, 0, 0, 0); e != 0 {
		w.server.Counters.WriteErrors.Add(1)
	}
}
