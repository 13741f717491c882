package dnslogtest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	dnstap "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
	"google.golang.org/protobuf/proto"

	"github.com/zonecast/zonecast/record"
)

// Authority is a connection to a reader.
type Authority struct {
	conn net.Conn
	w    *framestream.Writer
}

// Dial connects to a reader and shakes hands.
func Dial(network, address string) (*Authority, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	w, err := framestream.NewWriter(conn, &framestream.WriterOptions{ContentTypes: [][]byte{dnstap.FSContentType}, Bidirectional: true})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Authority{conn, w}, nil
}

// Tell tells of a query (AUTH_QUERY) of a resolver; the zero subnet is none.
func (a *Authority) Tell(name string, resolver netip.Addr, subnet netip.Prefix) error {
	b, err := Message(name, resolver, subnet)
	if err != nil {
		return err
	}
	return a.Send(b)
}

// Message is what Tell sends.
func Message(name string, resolver netip.Addr, subnet netip.Prefix) ([]byte, error) {
	query, err := Query(name, subnet)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&dnstap.Dnstap{Type: dnstap.Dnstap_MESSAGE.Enum(), Message: &dnstap.Message{
		Type: dnstap.Message_AUTH_QUERY.Enum(), QueryAddress: resolver.AsSlice(), QueryMessage: query,
	}})
}

// Write puts a frame into the buffer of the stream, which Send and Close send.
func (a *Authority) Write(payload []byte) error {
	_, err := a.w.WriteFrame(payload)
	return err
}

// Send sends a frame.
func (a *Authority) Send(payload []byte) error {
	if _, err := a.w.WriteFrame(payload); err != nil {
		return err
	}
	return a.w.Flush()
}

// Close ends the stream in order, which the reader confirms.
func (a *Authority) Close() error { return errors.Join(a.w.Close(), a.conn.Close()) }

// Hang ends the connection and nothing else.
func (a *Authority) Hang() error { return a.conn.Close() }

// Query is a query for A with the client subnet option (RFC 7871 §6).
func Query(name string, subnet netip.Prefix) ([]byte, error) {
	n, err := record.ParseName(name)
	if err != nil {
		return nil, err
	}
	b := []byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	b = append(append(b, n...), 0, 1, 0, 1)
	if !subnet.IsValid() {
		return b, nil
	}
	b[11] = 1 // an OPT record (RFC 6891 §6.1.2)
	octets := subnet.Addr().AsSlice()[:(subnet.Bits()+7)/8]
	b = append(b, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(octets)))
	family := uint16(1)
	if subnet.Addr().Is6() {
		family = 2
	}
	b = binary.BigEndian.AppendUint16(b, 8)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(octets)))
	b = binary.BigEndian.AppendUint16(b, family)
	return append(append(b, byte(subnet.Bits()), 0), octets...), nil
}
