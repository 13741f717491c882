package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
)

// Newcomer is the i-th of at most 65,000 servers that no data set has: it is in a
// site of the data sets, its addresses are from networks for tests (RFC 2544,
// RFC 3849), and there is one role for each hundred.
func Newcomer(i int) *registryapi.Registration {
	role := fmt.Sprintf("newcomer%c", 'a'+rune(i/100%26))
	return &registryapi.Registration{
		Name:      fmt.Sprintf("%s%05d.eqiad.wmnet", role, i),
		Addresses: []string{fmt.Sprintf("198.18.%d.%d", i/250, i%250+1), fmt.Sprintf("2001:db8::%x", i+1)},
		Role:      role, Site: "eqiad",
	}
}

// registered is a question whose answer must have data, and nothing else if only.
type registered struct {
	key  record.Key
	data record.Rdata
	only bool
}

// CheckRegistered asks all hosts for all that a registration must have brought: the
// addresses and their PTRs, exactly, and the server among its service's addresses.
func CheckRegistered(ctx context.Context, hosts []netip.AddrPort, in *registryapi.Registration) error {
	name, err := fleet.ParseName(in.Name)
	if err != nil {
		return err
	}
	s := fleet.Server{Name: name, Role: in.Role, Site: in.Site, TTL: uint32(in.TTL)}
	service, err := s.Service()
	if err != nil {
		return err
	}
	var questions []registered
	for _, text := range in.Addresses {
		a, err := fleet.ParseAddress(text)
		if err != nil {
			return err
		}
		t := record.TypeAAAA
		if a.Is4() {
			t = record.TypeA
		}
		questions = append(questions,
			registered{record.Key{Owner: name, Type: t}, record.Rdata(a.AsSlice()), true},
			registered{record.Key{Owner: rules.ReverseName(a), Type: record.TypePTR}, record.Rdata(name), true},
			registered{record.Key{Owner: service, Type: t}, record.Rdata(a.AsSlice()), false})
	}
	for _, host := range hosts {
		for _, q := range questions {
			r, err := dnswire.Query(ctx, host, q.key.Owner, q.key.Type, false)
			if err != nil {
				return err
			}
			if !q.in(r) {
				return fmt.Errorf("host %s: %s: answered %s %v, expected %q in it", host, q.key, r.RcodeName, r.Answer, q.data)
			}
		}
	}
	return nil
}

func (q registered) in(r *dnswire.Response) bool {
	if r.RcodeName != "NOERROR" || !r.Authoritative {
		return false
	}
	for _, set := range r.Answer {
		if set.Key != q.key || q.only && len(set.Data) != 1 {
			continue
		}
		for _, d := range set.Data {
			if d == q.data {
				return true
			}
		}
	}
	return false
}

// Register registers one server, waits until every live host answers it, and then
// asks them by DNS. It gives the time until the wait was over, and until all hosts
// were asked.
func Register(ctx context.Context, c *api.Client, hosts []netip.AddrPort, in *registryapi.Registration) (answered, asked time.Duration, err error) {
	began := time.Now()
	ch, err := c.Registry.RegisterServer(ctx, in)
	if err != nil {
		return 0, 0, err
	}
	if _, err := AwaitServers(ctx, c, ch.Revision); err != nil {
		return 0, 0, err
	}
	answered = time.Since(began)
	err = CheckRegistered(ctx, hosts, in)
	return answered, time.Since(began), err
}
