package difftest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// client asks one server, one question at a time.
type client struct {
	server netip.AddrPort
	udp    net.Conn
	tcp    net.Conn // nil: not connected
	id     uint16
	buf    [65535]byte
}

const (
	attempts = 4 // a loaded machine drops datagrams
	patience = 2 * time.Second
)

func newClient(server netip.AddrPort) (*client, error) {
	c, err := net.Dial("udp", server.String())
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", server, err)
	}
	return &client{server: server, udp: c}, nil
}

func (c *client) close() error {
	err := c.udp.Close()
	if c.tcp != nil {
		err = errors.Join(err, c.tcp.Close())
	}
	return err
}

// ask gives the response to one question.
func (c *client) ask(ctx context.Context, q Question) (*response, error) {
	c.id++
	b, err := c.octets(ctx, q, q.encode(c.id))
	if err != nil {
		return nil, err
	}
	r, err := decode(b, c.id)
	if err != nil {
		return nil, fmt.Errorf("%s answers %s %s by %s: %w", c.server, q.Name, q.Type, q.Via, err)
	}
	return r, nil
}

// askOnce asks over UDP and does not ask again.
func (c *client) askOnce(q Question) (*response, error) {
	c.id++
	b, err := c.octetsUDP(q.encode(c.id))
	if err != nil {
		return nil, err
	}
	return decode(b, c.id)
}

// octets is the response to a query as it came, in memory of its own.
func (c *client) octets(ctx context.Context, q Question, query []byte) (b []byte, err error) {
	for range attempts {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if q.Via.way().tcp {
			b, err = c.octetsTCP(query)
		} else {
			b, err = c.octetsUDP(query)
		}
		if err == nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("ask %s for %s %s by %s, %d times: %w", c.server, q.Name, q.Type, q.Via, attempts, err)
}

func (c *client) octetsUDP(query []byte) ([]byte, error) {
	if err := c.udp.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.udp.Write(query); err != nil {
		return nil, err
	}
	for {
		n, err := c.udp.Read(c.buf[:])
		if err != nil {
			return nil, err
		}
		if n >= 2 && bytes.Equal(c.buf[:2], query[:2]) { // else the late answer to an earlier attempt
			return bytes.Clone(c.buf[:n]), nil
		}
	}
}

func (c *client) octetsTCP(query []byte) (b []byte, err error) {
	if c.tcp == nil {
		if c.tcp, err = net.DialTimeout("tcp", c.server.String(), patience); err != nil {
			c.tcp = nil
			return nil, err
		}
	}
	defer func() {
		if err != nil { // closed for idleness, say: the next attempt connects anew
			c.tcp.Close()
			c.tcp = nil
		}
	}()
	if err := c.tcp.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.tcp.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c.tcp, c.buf[:2]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(c.buf[:])
	if _, err := io.ReadFull(c.tcp, c.buf[:n]); err != nil {
		return nil, err
	}
	return bytes.Clone(c.buf[:n]), nil
}
