package wire

import (
	"errors"
	"net/netip"
	"runtime"
	"syscall"
	"time"
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
	// busy is how many datagrams a round must have brought for the next one not to
	// wait: at low rates a call that finds nothing costs more than sleeping in it.
	busy = 8
	line = 64 // octets of a cache line
	// threadedAddresses is up to how many addresses each socket has a thread of its
	// own, which sleeps in receiving. With more, a thread has a socket of each address
	// and sleeps until one is readable, at the price of one more system call.
	threadedAddresses = 4
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   uint32
}

// udpThread is a thread, its sockets, and the memory it works on.
type udpThread struct {
	server  *Server
	sockets []udpSocket
	epoll   int // of the sockets; -1: there is only one
	ready   [16]unix.EpollEvent

	socket    udpSocket // that is read from now
	used      int       // how many of in the kernel has written to
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

type udpSocket struct {
	fd       int
	wildcard bool
}

// queryStride and stride are odd numbers of cache lines: as powers of two the
// beginnings of all buffers, which is what is touched, would share a few sets of
// the cache.
const queryStride = maxQuery + 5*line

func oddLines(n int) int {
	lines := (n + line - 1) / line
	return (lines | 1) * line
}

// newUDPThreads shares the sockets out.
func (s *Server) newUDPThreads() (threads []*udpThread, err error) {
	groups, workers := len(s.sockets), s.config.UDPWorkers
	if groups > threadedAddresses {
		groups = 1
	}
	for range groups * workers {
		threads = append(threads, s.newUDPThread())
	}
	for i, k := range s.sockets {
		for j, fd := range k.udp {
			t := threads[i%groups*workers+j%workers]
			t.sockets = append(t.sockets, udpSocket{fd, k.addr.Addr().IsUnspecified()})
		}
	}
	for _, t := range threads {
		if len(t.sockets) > 1 {
			err = errors.Join(err, t.watch())
		}
	}
	return threads, err
}

func (s *Server) newUDPThread() *udpThread {
	w := &udpThread{server: s, epoll: -1, stride: oddLines(s.config.MaxUDP), used: batchSize}
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

func (w *udpThread) watch() (err error) {
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for i, u := range w.sockets {
		// Pad comes back with the event: which of the sockets.
		e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(u.fd), Pad: int32(i)}
		if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, u.fd, &e); err != nil {
			return err
		}
	}
	return nil
}

func (w *udpThread) close() error {
	if w.epoll < 0 {
		return nil
	}
	return unix.Close(w.epoll)
}

// serve runs until the server stops.
func (w *udpThread) serve() {
	// The thread's own: it spends its life in system calls that the scheduler is not
	// told of.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	beQuick()
	handle, done := w.server.newHandler()
	defer done()
	round := w.oneSocket
	if w.epoll >= 0 {
		round = w.allSockets
	} else {
		w.use(w.sockets[0])
	}
	last := 0
	for !w.server.udpStops.Load() {
		last = round(handle, last)
	}
}

const (
	// slice is the shortest that Linux gives.
	slice = 100 * time.Microsecond
	// ahead is by how much the nice value of a thread that answers is below that of the
	// others: it weighs about ten times as much as one of them.
	ahead = 10
)

// beQuick asks the kernel to let this thread go before the others: what follows a
// journal, folds changes or collects memory has time, a query has not. And it asks for
// a short slice: who asks for one waits the less for others to end theirs when it wakes
// up (Linux 6.12, EEVDF). Who may not (CAP_SYS_NICE, or RLIMIT_NICE) goes on as it is,
// as on older kernels.
func beQuick() {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil || a.Policy != unix.SCHED_NORMAL {
		return
	}
	nice := a.Nice
	a.Nice, a.Runtime = max(nice-ahead, -20), uint64(slice)
	if unix.SchedSetAttr(0, a, 0) != nil {
		a.Nice = nice
		_ = unix.SchedSetAttr(0, a, 0)
	}
}

// oneSocket does a round with one socket and tells how many datagrams there were;
// last is what the round before gave.
func (w *udpThread) oneSocket(handle Handler, last int) int {
	if last >= busy {
		if n := w.step(handle, unix.MSG_DONTWAIT); n > 0 {
			return n
		}
	}
	return w.step(handle, unix.MSG_WAITFORONE)
}

// allSockets does a round with all that are readable.
func (w *udpThread) allSockets(handle Handler, last int) (got int) {
	n := epollWait(w.epoll, w.ready[:], last >= busy, wakeTime)
	for i := range n {
		w.use(w.sockets[w.ready[i].Pad])
		got += w.step(handle, unix.MSG_DONTWAIT)
	}
	return got
}

// use makes a socket the one that is read from and written to.
func (w *udpThread) use(u udpSocket) {
	if u.wildcard != w.socket.wildcard {
		w.used = batchSize // all headers are to be made anew
	}
	w.socket = u
}

// step receives a batch, has it answered and sends the responses.
func (w *udpThread) step(handle Handler, flag uintptr) int {
	n, err := w.receive(flag)
	switch err {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return 0
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return 0 // what some client's network said of a response
	default:
		w.server.Counters.ReadErrors.Add(1)
		time.Sleep(errorPause)
		return 0
	}
	for i := range n {
		w.take(i)
	}
	handle.Answer(w.batch[:n], protocol.UDP)
	w.send(w.pack(n))
	return n
}

// errorPause keeps an error that comes again at once from taking the whole CPU.
const errorPause = 20 * time.Millisecond

// receive fills w.in. With MSG_DONTWAIT it returns at once, past the scheduler;
// otherwise the thread sleeps in it, for wakeTime at most.
func (w *udpThread) receive(flag uintptr) (n int, err syscall.Errno) {
	for i := range w.used {
		h := &w.in[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.Control = nil
		h.SetControllen(0)
		if w.socket.wildcard {
			h.Control = &w.control[i][0]
			h.SetControllen(controlSize)
		}
	}
	w.used = 0
	fd := uintptr(w.socket.fd)
	var r uintptr
	if flag == unix.MSG_DONTWAIT {
		r, _, err = syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&w.in[0])), batchSize, flag, 0, 0)
	} else {
		r, _, err = syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&w.in[0])), batchSize, flag, 0, 0)
	}
	if err != 0 {
		// A header may have been touched before the error.
		w.used = 1
		return 0, err
	}
	w.used = int(r)
	return int(r), 0
}

// take makes the i-th message of the batch.
func (w *udpThread) take(i int) {
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
	if w.socket.wildcard {
		var reply []byte
		reply, m.Local = replyControl(w.control[i][:w.in[i].hdr.Controllen])
		w.in[i].hdr.SetControllen(len(reply))
	}
}

// pack makes w.out of the responses to the first n and tells how many there are.
func (w *udpThread) pack(n int) int {
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
		if in.Controllen > 0 {
			out.Control, out.Controllen = in.Control, in.Controllen
		}
		w.source[k] = i
		k++
	}
	return k
}

// send sends the first n of w.out. One that cannot be sent is counted and does not
// keep the others.
func (w *udpThread) send(n int) {
	refused := 0
	for at := 0; at < n; {
		sent, e := w.sendSome(w.out[at:n])
		switch {
		case e == 0:
			at += sent
		case e == unix.EINTR:
		case e == unix.ECONNREFUSED && refused < n: // said of an earlier response
			refused++
		case e == unix.EMSGSIZE:
			w.sendCut(at)
			at++
		case e == unix.EAGAIN: // no room for so long that the clients have given up
			w.server.Counters.WriteErrors.Add(uint64(n - at))
			return
		default: // no route, no memory, port 0: the client asks again
			w.server.Counters.WriteErrors.Add(1)
			at++
		}
	}
}

// sendSome sends some of what there is. When the socket's buffer is full it waits, for
// wakeTime at most.
func (w *udpThread) sendSome(out []mmsghdr) (int, syscall.Errno) {
	fd, n := uintptr(w.socket.fd), uintptr(len(out))
	sent, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&out[0])), n, unix.MSG_DONTWAIT, 0, 0)
	if e == unix.EAGAIN {
		sent, _, e = syscall.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&out[0])), n, 0, 0, 0)
	}
	return int(sent), e
}

// sendCut sends, instead of a response that the path does not take, one that is
// truncated: header and question with TC.
func (w *udpThread) sendCut(at int) {
	w.server.Counters.TooLarge.Add(1)
	m := &w.batch[w.source[at]]
	w.cut = protocol.Truncate(w.cut[:0], m.Response)
	if len(w.cut) == 0 {
		return
	}
	w.outVec[at].Base = &w.cut[0]
	w.outVec[at].SetLen(len(w.cut))
	if _, e := w.sendSome(w.out[at : at+1]); e != 0 {
		w.server.Counters.WriteErrors.Add(1)
	}
}
