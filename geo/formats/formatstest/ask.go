package formatstest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Answer is what a server says of a question on behalf of a client.
type Answer struct {
	// Records are the RDATA of the answer section, in order of their text; of an error the
	// rcode.
	Records string
	TTL     uint32 // the least, in seconds
	Scope   int    // bits; -1: the answer has no ECS
}

// question is one with EDNS, and ECS of a whole address unless that is invalid.
func question(name string, qtype uint16, client netip.Addr) *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.SetEdns0(1232, false)
	if client.IsValid() {
		family := uint16(1)
		if client.Is6() {
			family = 2
		}
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(client.BitLen()), Address: client.AsSlice()})
	}
	return q
}

func answerOf(m *dns.Msg) Answer {
	a := Answer{Scope: -1}
	var all []string
	for i, rr := range m.Answer {
		if ttl := rr.Header().Ttl; i == 0 || ttl < a.TTL {
			a.TTL = ttl
		}
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(all)
	a.Records = strings.Join(all, " ")
	if m.Rcode != dns.RcodeSuccess {
		a.Records = dns.RcodeToString[m.Rcode]
	}
	if o := m.IsEdns0(); o != nil {
		for _, o := range o.Option {
			if s, ok := o.(*dns.EDNS0_SUBNET); ok {
				a.Scope = int(s.SourceScope)
			}
		}
	}
	return a
}

// AskAll asks a server for a name and type on behalf of each client, over some sockets. An
// invalid client is none: the resolver's own address counts.
func AskAll(t testing.TB, server, name string, qtype uint16, clients []netip.Addr) []Answer {
	t.Helper()
	out := make([]Answer, len(clients))
	const sockets = 4
	errs := make([]error, sockets)
	var group sync.WaitGroup
	for s := range sockets {
		group.Go(func() {
			c, err := dns.Dial("udp", server)
			if err != nil {
				errs[s] = err
				return
			}
			defer c.Close()
			for i := s; i < len(clients); i += sockets {
				if out[i], errs[s] = exchange(c, question(name, qtype, clients[i])); errs[s] != nil {
					errs[s] = fmt.Errorf("%s for %s: %w", server, clients[i], errs[s])
					return
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return out
}

// exchange asks up to five times: a machine under load loses packets of UDP.
func exchange(c *dns.Conn, q *dns.Msg) (Answer, error) {
	var last error
	for range 5 {
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if last = c.WriteMsg(q); last != nil {
			continue
		}
		for {
			m, err := c.ReadMsg()
			if err != nil {
				last = err
				break
			}
			if m.Id == q.Id {
				return answerOf(m), nil
			}
		}
	}
	return Answer{}, last
}
