package tap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
)

// Our choices. A collector is on this host: it is either there at once or not.
const (
	ioTime   = 5 * time.Second // for a step of the handshake, and for a write
	stopTime = 2 * time.Second // for what waits, the stop frame and its answer
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// runSocket holds the connection. One is
//
//	away -- dial, READY, ACCEPT, START --> connected -- ctx ends: STOP, FINISH --> over
//	  ^-- pause, 100 ms doubling to 5 s ------'  an error of a write, or end of file
func (t *Tap) runSocket(ctx context.Context) {
	pause, told := minPause, false
	for ctx.Err() == nil {
		began := time.Now()
		connected, err := t.session(ctx)
		if ctx.Err() != nil {
			if err != nil {
				t.log.Warn("dnstap stream ended without order", "socket", t.config.Socket, "error", err)
			}
			return
		}
		if connected || !told {
			t.log.Warn("dnstap collector is away", "socket", t.config.Socket, "error", err)
			told = true
		}
		if connected && time.Since(began) > maxPause { // not one that comes and goes at once
			pause = minPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// session is one connection from its beginning to its end.
func (t *Tap) session(ctx context.Context) (connected bool, err error) {
	dialer := net.Dialer{Timeout: ioTime}
	network, at := "unix", t.config.Socket
	if address, tcp := strings.CutPrefix(at, tcpScheme); tcp {
		network, at = "tcp", address
	}
	conn, err := dialer.DialContext(ctx, network, at)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	hurry := context.AfterFunc(ctx, func() { conn.Close() })
	w, err := framestream.NewWriter(conn, &framestream.WriterOptions{
		ContentTypes: [][]byte{dnstap.FSContentType}, Bidirectional: true, Timeout: ioTime,
	})
	if !hurry() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("shake hands: %w", err)
	}

	t.connected.Store(true)
	defer t.connected.Store(false)
	t.log.Info("dnstap collector is there", "socket", t.config.Socket)
	limit := context.AfterFunc(ctx, func() { time.AfterFunc(stopTime, func() { conn.Close() }) })
	defer limit()
	if err := t.pump(ctx, connection{w, conn}); err != nil {
		return true, err
	}
	return true, w.Close()
}

// connection is the stream to a collector.
type connection struct {
	*framestream.Writer
	conn net.Conn
}

func (c connection) look() (next bool, err error) { return false, present(c.conn) }

func (c connection) full(int) bool { return false }

func (c connection) next() error { return nil }

var errGone = errors.New("the collector closed the connection")

// present looks for the end of file: a collector that went is only noticed otherwise
// when there is something to write.
func present(conn net.Conn) error {
	raw, err := conn.(syscall.Conn).SyscallConn() // of unix and TCP sockets
	if err != nil {
		return err
	}
	var n int
	var b [1]byte
	failed := raw.Control(func(fd uintptr) {
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	switch {
	case failed != nil:
		return failed
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) || err == nil && n > 0:
		return nil
	case err != nil:
		return err
	}
	return errGone
}
