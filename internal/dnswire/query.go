package dnswire

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Response is a DNS response taken apart.
type Response struct {
	Rcode         int    // RFC 6895 §2.3, with the upper bits from EDNS
	RcodeName     string // mnemonic such as NXDOMAIN, or RCODEnnn
	Authoritative bool   // AA
	Truncated     bool   // TC
	Recursion     bool   // RA
	Answer        []record.RRset
	Authority     []record.RRset
	Additional    []record.RRset // without OPT
	Size          int            // octets of the message as received
	Took          time.Duration
	TCP           bool // the response came over TCP
}

// Query asks server once, without recursion desired, over UDP (again over TCP when
// the response is truncated) or over TCP. Without a deadline in ctx it waits 2 s.
func Query(ctx context.Context, server netip.AddrPort, name record.Name, t record.Type, tcp bool) (*Response, error) {
	return nil, errors.New("not yet")
}
