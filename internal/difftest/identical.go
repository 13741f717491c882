package difftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
)

// Identical asks all hosts the same questions, each with the same ID, and says how
// many they have answered with the same octets. The first answer that differs is an
// error.
func Identical(ctx context.Context, hosts []netip.AddrPort, questions iter.Seq[Question]) (asked int, err error) {
	var clients []*client
	for _, h := range hosts {
		c, err := newClient(h)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		clients = append(clients, c)
	}
	if len(clients) < 2 {
		return 0, fmt.Errorf("compare %d hosts, expected at least 2", len(clients))
	}
	for q := range questions {
		query := q.encode(uint16(asked))
		first, err := clients[0].octets(ctx, q, query)
		if err != nil {
			return asked, err
		}
		for _, c := range clients[1:] {
			other, err := c.octets(ctx, q, query)
			if err != nil {
				return asked, err
			}
			if !bytes.Equal(first, other) {
				return asked, fmt.Errorf("%s %s by %s with ID %d: %s answers %x, %s %x", q.Name, q.Type, q.Via, uint16(asked), hosts[0], first, c.server, other)
			}
		}
		asked++
	}
	return asked, nil
}
