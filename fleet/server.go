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
	MaxAddresses = 64   // a machine with more interfaces than this is a mistake
	MaxText      = 1024 // octets of author and of reason
	MaxElement   = 128  // octets of role, site and origin; a cluster is two and a dot
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

// Decode reads what Encode wrote and checks it.
func Decode(b []byte) (Server, error) {
	var s Server
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&s); err != nil {
		return Server{}, fmt.Errorf("server: %w", err)
	}
	return s, s.Check()
}
