package dnslog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
	"google.golang.org/protobuf/proto"
)

const (
	// maxFrame is how many octets a message with what dnstap adds may have: two messages of
	// 65,535 octets, and as much as that for the rest.
	maxFrame = 3 << 16
	// handshakeTime is how long a step of it may take.
	handshakeTime = 5 * time.Second
)

var errEvent = errors.New("event that is no query to an authority, or damaged")

// Read takes the messages of one connection until it ends or ctx does; both are no errors. each
// is called for each query; wrong for each message that is left out. The connection is closed.
func Read(ctx context.Context, conn net.Conn, each func(Query), wrong func()) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r, err := framestream.NewReader(conn, &framestream.ReaderOptions{
		ContentTypes: [][]byte{dnstap.FSContentType}, Bidirectional: true, Timeout: handshakeTime,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("shake hands: %w", err)
	}
	frame := make([]byte, maxFrame)
	var event dnstap.Dnstap
	for {
		n, err := r.ReadFrame(frame)
		switch {
		case ctx.Err() != nil || errors.Is(err, framestream.EOF):
			return nil
		case errors.Is(err, framestream.ErrDataFrameTooLarge):
			return fmt.Errorf("read frame: more than %d octets", maxFrame)
		case err != nil:
			return fmt.Errorf("read frame: %w", err)
		}
		q, err := decode(frame[:n], &event)
		if err != nil {
			wrong()
			continue
		}
		each(q)
	}
}

// decode reads the payload of a frame; event is for its memory.
func decode(b []byte, event *dnstap.Dnstap) (q Query, err error) {
	event.Reset()
	if err := proto.Unmarshal(b, event); err != nil {
		return q, errEvent
	}
	m := event.GetMessage()
	message := m.GetQueryMessage()
	switch m.GetType() {
	case dnstap.Message_AUTH_QUERY:
	case dnstap.Message_AUTH_RESPONSE:
		if len(message) == 0 {
			message = m.GetResponseMessage()
		}
	default:
		return q, errEvent
	}
	from, ok := netip.AddrFromSlice(m.GetQueryAddress())
	if !ok {
		return q, errEvent
	}
	q.From = from.Unmap()
	q.Name, q.Subnet, err = parse(message)
	return q, err
}
