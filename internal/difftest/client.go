package difftest

import (
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

func (c *client) ask(ctx context.Context, q Question) (r *response, err error) {
	for range attempts {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.id++
		if q.Via == TCP {
			r, err = c.overTCP(q.encode(c.id))
		} else {
			r, err = c.overUDP(q.encode(c.id))
		}
		if err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("ask %s for %s %s by %s, %d times: %w", c.server, q.Name, q.Type, q.Via, attempts, err)
}

func (c *client) overUDP(query []byte) (*response, error) {
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
		if n >= 2 && binary.BigEndian.Uint16(c.buf[:]) != c.id {
			continue // the late answer to an earlier attempt
		}
		return decode(c.buf[:n], c.id)
	}
}

func (c *client) overTCP(query []byte) (*response, error) {
	if c.tcp == nil {
		t, err := net.DialTimeout("tcp", c.server.String(), patience)
		if err != nil {
			return nil, err
		}
		c.tcp = t
	}
	r, err := c.exchange(query)
	if err != nil { // closed for idleness, say: the next attempt connects anew
		c.tcp.Close()
		c.tcp = nil
	}
	return r, err
}

func (c *client) exchange(query []byte) (*response, error) {
	if err := c.tcp.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(query)))
	if _, err := c.tcp.Write(append(b, query...)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c.tcp, c.buf[:2]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(c.buf[:])
	if _, err := io.ReadFull(c.tcp, c.buf[:n]); err != nil {
		return nil, err
	}
	return decode(c.buf[:n], c.id)
}
