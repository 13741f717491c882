package wire

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/authority/protocol"
)

const (
	// maxMessage is what the length before a message can say (RFC 1035 §4.2.2).
	maxMessage = 65535
	// tcpBatch is how many messages of a connection are answered together.
	tcpBatch = 64
	// keepOut and keepResponse are how much room for responses a loop keeps, in octets.
	keepOut      = 256 << 10
	keepResponse = 16 << 10
)

// maxPending bounds what all connections together hold of messages that are not whole
// and of responses that are not taken, in octets: 1,000 of the largest messages, or
// 100,000 of the usual.
const maxPending = 64 << 20

// exchange is the memory of a loop for the connection that has its turn.
type exchange struct {
	handler Handler
	in      []byte // the largest message with its length fits
	out     []byte
	batch   [tcpBatch]Message
}

// receive reads once and answers the messages that are whole; false: the connection is
// to be closed. What there is more of makes the next event.
func (l *tcpLoop) receive(k *connection) bool {
	room := l.in
	if len(k.in) > 0 { // into its place behind what has arrived before
		if !l.makeRoom(k) {
			return false
		}
		room = k.in[len(k.in):cap(k.in)]
	}
	n, err := read(k.fd, room)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return true
	case err != 0 || n == 0:
		return false
	case len(k.in) == 0:
		return l.answer(k, room[:n])
	}
	k.in = k.in[:len(k.in)+n]
	return l.answer(k, k.in)
}

// resume sends more of a response; when that is done it answers what has arrived
// meanwhile.
func (l *tcpLoop) resume(k *connection) bool {
	n, err := write(k.fd, k.out[k.sent:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	if err != 0 {
		l.server.Counters.WriteErrors.Add(1)
		return false
	}
	if k.sent += n; k.sent < len(k.out) {
		if k.sent-k.mark >= maxMessage { // it takes its time, but it takes them
			k.mark, k.advanced = k.sent, true
		}
		return true
	}
	l.free(&k.out)
	if l.watch(unix.EPOLL_CTL_MOD, k.fd, k.serial, unix.EPOLLIN) != nil {
		return false
	}
	k.advanced = true
	return l.answer(k, k.in)
}

// answer answers the whole messages of data and keeps the rest with the connection; so
// it does with all that follow a response that the client does not take.
func (l *tcpLoop) answer(k *connection, data []byte) bool {
	for len(k.out) == 0 {
		n, size := l.cut(k, data)
		if n == 0 {
			break
		}
		l.handler.Answer(l.batch[:n], protocol.TCP)
		k.advanced = true
		all := l.assemble(n)
		data = data[size:]
		if !l.send(k) || !all {
			return false
		}
	}
	return l.keep(k, data)
}

// cut makes a batch of the whole messages at the beginning of data and tells how many
// there are and how many octets they take.
func (l *tcpLoop) cut(k *connection, data []byte) (n, at int) {
	for n < tcpBatch && len(data)-at >= 2 {
		end := at + 2 + int(binary.BigEndian.Uint16(data[at:]))
		if len(data) < end {
			break
		}
		l.batch[n] = Message{Query: data[at+2 : end : end], Client: k.client, Local: k.local, Response: l.batch[n].Response[:0]}
		at = end
		n++
	}
	return n, at
}

// assemble makes l.out of the responses to the first n; false: one is missing. What
// gets no answer is no DNS client.
func (l *tcpLoop) assemble(n int) (all bool) {
	if cap(l.out) > keepOut {
		l.out = nil
	}
	l.out, all = l.out[:0], true
	for i := range n {
		r := l.batch[i].Response
		if len(r) == 0 || len(r) > maxMessage {
			all = false
		} else {
			l.out = binary.BigEndian.AppendUint16(l.out, uint16(len(r)))
			l.out = append(l.out, r...)
		}
		if cap(r) > keepResponse {
			l.batch[i].Response = nil
		}
		l.batch[i].Query = nil
	}
	return all
}

// send writes l.out; what the client does not take now waits with the connection.
func (l *tcpLoop) send(k *connection) bool {
	rest := l.out
	for len(rest) > 0 {
		n, err := write(k.fd, rest)
		switch err {
		case 0:
			rest = rest[n:]
			continue
		case unix.EINTR:
			continue
		case unix.EAGAIN:
		default:
			l.server.Counters.WriteErrors.Add(1)
			return false
		}
		if k.out, k.sent, k.mark = l.hold(len(rest)), 0, 0; k.out == nil {
			return false
		}
		k.out = append(k.out, rest...)
		return l.watch(unix.EPOLL_CTL_MOD, k.fd, k.serial, unix.EPOLLOUT) == nil
	}
	return true
}

// keep holds what is not answered yet. It may be in k.in already, or its end.
func (l *tcpLoop) keep(k *connection, rest []byte) bool {
	if len(rest) == 0 {
		l.free(&k.in)
		return true
	}
	if len(rest) == len(k.in) && &rest[0] == &k.in[0] && len(k.in) < cap(k.in) {
		return true
	}
	b := l.hold(roomFor(rest))
	if b == nil {
		return false
	}
	b = append(b, rest...)
	l.free(&k.in)
	k.in = b
	return true
}

// makeRoom grows k.in, which has a part of a message, unless it has room.
func (l *tcpLoop) makeRoom(k *connection) bool {
	return len(k.in) < cap(k.in) || l.keep(k, k.in)
}

// roomFor is for what has arrived and for more of the message that it begins with, but
// not for all that the message claims to be: who sends nothing costs nothing.
func roomFor(arrived []byte) int {
	const least = 512
	if len(arrived) < 2 {
		return least
	}
	whole := 2 + int(binary.BigEndian.Uint16(arrived))
	if len(arrived) >= whole {
		return len(arrived)
	}
	return min(whole, max(least, 2*len(arrived)))
}

// hold gives n octets to a connection; nil: there are too many held already.
func (l *tcpLoop) hold(n int) []byte {
	s := l.server
	if s.pending.Add(int64(n)) > maxPending {
		s.pending.Add(-int64(n))
		s.Counters.TCPOverflow.Add(1)
		return nil
	}
	return make([]byte, 0, n)
}

func (l *tcpLoop) free(b *[]byte) {
	l.server.pending.Add(-int64(cap(*b)))
	*b = nil
}

// read does not wait, and does not tell the scheduler.
func read(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), e
}

// write does not wait, and does not tell the scheduler; nobody reading any more is an
// error, not a signal.
func write(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return int(n), e
}
