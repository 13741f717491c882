package packet

import (
	"context"
	"errors"
	"net"
)

// maxQuery is the room for a UDP query in octets. A larger datagram arrives cut off
// and is answered as what it then is.
const maxQuery = 4096

func (s *Server) serveUDP(ctx context.Context, c *net.UDPConn) {
	handle, done := s.newHandler()
	defer done()
	query := make([]byte, maxQuery)
	control := make([]byte, controlSize)
	var response []byte
	for {
		n, oob, _, client, err := c.ReadMsgUDPAddrPort(query, control)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.Counters.ReadErrors.Add(1)
			if !pause(ctx) {
				return
			}
			continue
		}
		response = handle(query[:n], Meta{Client: client}, response[:0])
		if len(response) == 0 {
			continue
		}
		if _, _, err := c.WriteMsgUDPAddrPort(response, replyControl(control[:oob]), client); err != nil {
			s.Counters.WriteErrors.Add(1) // no route, a full buffer: the client asks again
		}
	}
}
