package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The hand-over between two processes of one user, over a unix socket that only this
// user may open:
//
//	successor                          predecessor
//	   connects ─────────────────────►    checks the user
//	   ◄───────────── one message a socket: {"network", "address"} and the descriptor
//	   ◄───────────── {"network": ""}: that was all
//	   gets ready, however long that takes; reads from the sockets, then says
//	   reads ────────────────────────►    stops reading, ends what it is at
//	   ◄──────────────────────── yours
//
// Both have the same sockets until then: what is in them is read by one or the other.
// A successor that dies before it says so changes nothing. Of several the first one
// gets them; the others are told that they are taken.
const (
	saysReads = 'r'
	saysYours = 'y'
	saysTaken = 't'
)

// handOverTime bounds what takes no time with a sound process at the other end.
const handOverTime = 10 * time.Second

// awaitSuccessor gives the sockets to whoever comes, until one says that it reads from
// them: then it cancels with ErrHandedOver.
func (s *Server) awaitSuccessor(ctx context.Context, cancel context.CancelCauseFunc) error {
	ln, err := listenUnix(s.config.HandOver)
	if err != nil {
		return fmt.Errorf("wait for a successor at %s: %w", s.config.HandOver, err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var taken atomic.Bool
	for {
		c, err := ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			s.log.Warn("successor not accepted", "error", err)
			if !pause(ctx) {
				return nil
			}
			continue
		}
		all.Go(func() {
			defer c.Close()
			given, err := s.give(ctx, c, &taken)
			switch {
			case given:
				s.log.Info("sockets handed over to a successor")
				cancel(ErrHandedOver)
			case ctx.Err() == nil:
				s.log.Warn("sockets not handed over; this process goes on", "error", err)
			}
		})
	}
}

// pause waits a little after an error that may come again at once; false when ctx
// ended.
func pause(ctx context.Context) bool {
	t := time.NewTimer(errorPause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// give sends the sockets, waits until the successor reads from them, and lets go of
// them unless another has them. While it waits this process goes on.
func (s *Server) give(ctx context.Context, c *net.UnixConn, taken *atomic.Bool) (given bool, err error) {
	if err := samePeer(c); err != nil {
		return false, err
	}
	if err := c.SetDeadline(time.Now().Add(handOverTime)); err != nil {
		return false, err
	}
	for _, k := range s.sockets {
		for _, fd := range k.udp {
			err = errors.Join(err, sendSocket(c, "udp", k.addr, fd))
		}
		err = errors.Join(err, sendSocket(c, "tcp", k.addr, k.tcp))
	}
	if err == nil {
		err = sendEnd(c)
	}
	if err != nil {
		return false, err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var said [1]byte
	if _, err := c.Read(said[:]); err != nil {
		if errors.Is(context.Cause(ctx), ErrHandedOver) {
			_, err = c.Write([]byte{saysTaken})
		}
		return false, err
	}
	if !taken.CompareAndSwap(false, true) {
		_, err = c.Write([]byte{saysTaken})
		return false, err
	}
	if _, err := c.Write([]byte{saysYours}); err != nil {
		taken.Store(false) // it is dead
		return false, err
	}
	return true, nil
}

// predecessor is the process whose sockets this one has.
type predecessor struct {
	conn *net.UnixConn
	gone chan struct{} // closed when it has ended
	done sync.WaitGroup
}

// watch notices when the predecessor ends, until stop is called.
func (p *predecessor) watch() {
	p.gone = make(chan struct{})
	p.done.Go(func() {
		// It has nothing to say before it is told, so that anything is the end.
		raw, err := p.conn.SyscallConn()
		if err == nil {
			err = raw.Read(func(fd uintptr) bool {
				var b [1]byte
				_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
				return err != unix.EAGAIN && err != unix.EINTR
			})
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			close(p.gone)
		}
	})
}

// close ends the watch, too.
func (p *predecessor) close() error {
	err := p.conn.SetReadDeadline(time.Unix(1, 0))
	p.done.Wait()
	return errors.Join(err, p.conn.Close())
}

// takeOver asks a predecessor for its sockets; none when there is none.
func (s *Server) takeOver() (given []sockets, err error) {
	path := s.config.HandOver
	if path == "" {
		return nil, nil
	}
	if i, err := os.Lstat(path); err == nil && i.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("ask the predecessor for its sockets: %s is no socket, expected one or nothing", path)
	}
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil // nobody, or one that is dead
	}
	if err != nil {
		return nil, fmt.Errorf("ask the predecessor for its sockets: %w", err)
	}
	if err = samePeer(c); err == nil {
		given, err = receiveSockets(c)
	}
	if err != nil {
		for _, k := range given {
			err = errors.Join(err, k.close())
		}
		return nil, errors.Join(fmt.Errorf("take sockets over from the predecessor at %s: %w", path, err), c.Close())
	}
	s.before = &predecessor{conn: c}
	s.before.watch()
	return given, nil
}

// errTaken is for a successor that came second.
var errTaken = errors.New("another process has taken the sockets over")

// relieve tells the predecessor, if there is one, that this process reads.
func (s *Server) relieve(ctx context.Context) error {
	p := s.before
	if p == nil {
		return nil
	}
	s.before = nil
	if err := p.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	p.done.Wait()
	defer p.conn.Close()
	said, err := p.ask(ctx)
	switch {
	case err == nil && said == saysTaken:
		return errTaken
	case err != nil && ctx.Err() == nil:
		s.log.Info("predecessor is gone", "error", err)
	}
	return nil
}

func (p *predecessor) ask(ctx context.Context) (said byte, err error) {
	if err := p.conn.SetDeadline(time.Now().Add(handOverTime)); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { p.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// It may have said that it is too late, and have closed, before it is asked.
	_, werr := p.conn.Write([]byte{saysReads})
	var b [1]byte
	_, err = p.conn.Read(b[:])
	if err != nil {
		err = errors.Join(werr, err)
	}
	return b[0], err
}
