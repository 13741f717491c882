package compliance

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// patience is how long a response may take. It is only waited out when the server
// does not answer a plain question either.
const patience = 5 * time.Second

// Ask sends the case to the server and gives what is wrong with the response.
// Silence is known by the answer to a plain question that is sent behind it on
// the same socket.
func (c Case) Ask(ctx context.Context, server netip.AddrPort) ([]string, error) {
	sent := bytes.Clone(c.Query)
	id := uint16(rand.IntN(1<<15)) << 1 // the plain question has the odd one after it
	if len(sent) >= 2 {
		binary.BigEndian.PutUint16(sent, id)
	}
	plain := query{questions: []string{question(wire(Apex), typeSOA, classIN)}}.octets()
	binary.BigEndian.PutUint16(plain, id|1)
	network := [...]string{UDP: "udp", TCP: "tcp"}[c.Over]
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.Name, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.Name, err)
	}
	exchange := overUDP
	if c.Over == TCP {
		exchange = overTCP
	}
	got, err := exchange(conn, sent, plain)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.Name, err)
	}
	return c.Judge(sent, got), nil
}

// overUDP gives the response to sent, nil when only plain is answered.
func overUDP(conn net.Conn, sent, plain []byte) ([]byte, error) {
	for _, m := range [][]byte{sent, plain} {
		if _, err := conn.Write(m); err != nil {
			return nil, err
		}
	}
	var got []byte
	buf := make([]byte, 65536)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("the plain question behind it is not answered: %w", err)
		}
		if bytes.HasPrefix(buf[:n], plain[:2]) {
			return got, nil
		}
		got = bytes.Clone(buf[:n])
	}
}

// overTCP is overUDP; a server that closes the connection has not answered.
func overTCP(conn net.Conn, sent, plain []byte) ([]byte, error) {
	var out []byte
	for _, m := range [][]byte{sent, plain} {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(m))), m...)
	}
	if _, err := conn.Write(out); err != nil {
		return nil, err
	}
	var got []byte
	for {
		var size [2]byte
		_, err := io.ReadFull(conn, size[:])
		buf := make([]byte, binary.BigEndian.Uint16(size[:]))
		if err == nil {
			_, err = io.ReadFull(conn, buf)
		}
		var wait net.Error
		switch {
		case errors.As(err, &wait) && wait.Timeout():
			return nil, fmt.Errorf("the plain question behind it is not answered: %w", err)
		case err != nil, bytes.HasPrefix(buf, plain[:2]):
			return got, nil
		}
		got = buf
	}
}
