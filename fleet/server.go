package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Limits of a Server. A node with all of them at their bounds stays below half of
// store.MaxValue.
const (
	// MaxAddresses keeps the replacement of all of a server's addresses in one store
	// transaction: a condition and a put for each new one, a delete for each old
	// one, and 8 for the rest are 104 of store.MaxTxnOps.
	MaxAddresses = 32
	MaxText      = 1024 // octets of author and of reason
	MaxElement   = 128  // octets of site and of a file's name; a cluster is at most 191
	MaxRole      = 62   // octets: one label, with "_" before it in the name of an SRV
	DefaultTTL   = 3600 // seconds, for servers that say none: an hour, as people write by hand
)

// OriginCall is the Origin of servers that registered by themselves or by a
// person's command. OriginFile before a file's name is that of its servers.
const (
	OriginCall = "call"
	OriginFile = "fleet:"
)

// Server is one machine of the fleet.
type Server struct {
	Name      record.Name       `json:"name"`
	Addresses []netip.Addr      `json:"addresses"`
	Role      string            `json:"role"`
	Site      string            `json:"site"`
	Cluster   string            `json:"cluster"`
	TTL       uint32            `json:"ttl"` // seconds
	Options   map[string]string `json:"options,omitempty"`
	// Origin is OriginCall or OriginFile followed by the file's name: who may take
	// the server away again.
	Origin string `json:"origin"`
	Author string `json:"author,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Time is when the server was registered with this data, unix milliseconds.
	Time int64 `json:"time_ms"`
}

// Normal gives the server its one form: addresses sorted and IPv4 before IPv6, the
// cluster role.site when it has none, DefaultTTL when it has none, no empty map.
// Nothing of s is shared with the result.
func (s Server) Normal() Server {
	s.Addresses = slices.Clone(s.Addresses)
	slices.SortFunc(s.Addresses, netip.Addr.Compare)
	s.Options = maps.Clone(s.Options)
	if len(s.Options) == 0 {
		s.Options = nil
	}
	if s.Cluster == "" {
		s.Cluster = s.Role + "." + s.Site
	}
	if s.TTL == 0 {
		s.TTL = DefaultTTL
	}
	return s
}

// ID is the name as it stands in the paths of the store.
func (s Server) ID() string { return ID(s.Name) }

// ID is a server name as it stands in the paths of the store and in lists: without
// the final dot.
func ID(n record.Name) string { return strings.TrimSuffix(n.String(), ".") }

// ParseName reads a server's name, the final dot optional.
func ParseName(text string) (record.Name, error) {
	n, err := record.ParseName(text)
	if err != nil {
		return "", err
	}
	return n, checkName(n)
}

// Domain is where the server's service names lie: its name without the first label.
func (s Server) Domain() record.Name { return s.Name.Parent() }

// Service is the name that has the addresses of all servers with this role in this
// domain.
func (s Server) Service() (record.Name, error) { return s.Domain().Child(s.Role) }

// ServiceSRV is the owner of the SRV records that the server is in (RFC 2782),
// such as _web._tcp.example.net; "" when it says no port.
func (s Server) ServiceSRV() (record.Name, error) {
	if s.Options[OptionPort] == "" {
		return "", nil
	}
	protocol := s.Options[OptionProtocol]
	if protocol == "" {
		protocol = "tcp"
	}
	n, err := s.Domain().Child("_" + protocol)
	if err != nil {
		return "", err
	}
	return n.Child("_" + s.Role)
}

// Same tells whether both register the same: everything but who, why and when.
func (s Server) Same(t Server) bool {
	return s.Name == t.Name && slices.Equal(s.Addresses, t.Addresses) && s.Role == t.Role && s.Site == t.Site &&
		s.Cluster == t.Cluster && s.TTL == t.TTL && maps.Equal(s.Options, t.Options) && s.Origin == t.Origin
}

// Encode gives the canonical JSON of a server that passed Check: the fields in the
// order above, options sorted, no white space.
func (s Server) Encode() []byte {
	b, err := json.Marshal(s.Normal())
	if err != nil {
		panic(err) // our own type: strings, numbers and texts only
	}
	return b
}

// Decode reads what Encode wrote and checks it. Fields and options that are not
// known are left out: a newer version may have written them, and its servers must
// not drop out of the DNS during an upgrade.
func Decode(b []byte) (Server, error) {
	var s Server
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&s); err != nil {
		return Server{}, fmt.Errorf("server: %w", err)
	}
	maps.DeleteFunc(s.Options, func(k, _ string) bool { return !knownOption(k) })
	return s, s.Check()
}
