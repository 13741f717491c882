package tap

import (
	"net/netip"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	"google.golang.org/protobuf/proto"
)

// encoder makes the payload of a frame out of a slot. All that the message points to
// is in it, so that a message costs it no memory.
type encoder struct {
	event     dnstap.Dnstap
	message   dnstap.Message
	buffer    []byte
	kind      dnstap.Message_Type
	family    dnstap.SocketFamily
	protocol  dnstap.SocketProtocol
	client    endpoint
	server    endpoint
	queried   instant
	responded instant
	what      dnstap.Dnstap_Type
}

type endpoint struct {
	octets [16]byte
	port   uint32
}

type instant struct {
	second     uint64
	nanosecond uint32
}

func newEncoder(identity, version string) *encoder {
	e := &encoder{what: dnstap.Dnstap_MESSAGE}
	e.event.Type, e.event.Message = &e.what, &e.message
	if identity != "" {
		e.event.Identity = []byte(identity)
	}
	if version != "" {
		e.event.Version = []byte(version)
	}
	m := &e.message
	m.Type, m.SocketProtocol = &e.kind, &e.protocol
	return e
}

// encode gives the payload, which is good until the next call.
func (e *encoder) encode(s *slot) ([]byte, error) {
	m := &e.message
	m.QueryMessage, m.ResponseMessage = nil, nil
	if s.answer {
		e.kind, m.ResponseMessage = dnstap.Message_AUTH_RESPONSE, s.message
	} else {
		e.kind, m.QueryMessage = dnstap.Message_AUTH_QUERY, s.message
	}
	e.protocol = dnstap.SocketProtocol_UDP
	if s.tcp {
		e.protocol = dnstap.SocketProtocol_TCP
	}
	m.SocketFamily = nil
	if a := s.client.Addr(); a.IsValid() {
		e.family = dnstap.SocketFamily_INET
		if a.Is6() {
			e.family = dnstap.SocketFamily_INET6
		}
		m.SocketFamily = &e.family
	}
	m.QueryAddress, m.QueryPort = e.client.set(s.client)
	m.ResponseAddress, m.ResponsePort = e.server.set(s.server)
	m.QueryTimeSec, m.QueryTimeNsec = e.queried.set(s.queried)
	m.ResponseTimeSec, m.ResponseTimeNsec = e.responded.set(s.responded)
	var err error
	e.buffer, err = proto.MarshalOptions{}.MarshalAppend(e.buffer[:0], &e.event)
	return e.buffer, err
}

// set gives the address in network byte order and the port; nil for the zero AddrPort.
func (p *endpoint) set(a netip.AddrPort) ([]byte, *uint32) {
	if !a.IsValid() {
		return nil, nil
	}
	p.port = uint32(a.Port())
	if a.Addr().Is4() {
		v4 := a.Addr().As4()
		return p.octets[:copy(p.octets[:], v4[:])], &p.port
	}
	p.octets = a.Addr().As16()
	return p.octets[:], &p.port
}

// set gives the seconds since 1970 and the nanoseconds; nil for the zero Time.
func (i *instant) set(t time.Time) (*uint64, *uint32) {
	if t.IsZero() {
		return nil, nil
	}
	i.second, i.nanosecond = uint64(t.Unix()), uint32(t.Nanosecond())
	return &i.second, &i.nanosecond
}
