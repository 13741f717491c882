package tinydns

import (
	"net/netip"

	"github.com/zonecast/zonecast/record"
)

// Entry says where the clients of a prefix are. Location "" is explicitly none.
type Entry struct {
	Prefix   netip.Prefix
	Location record.Location
}

// Kind is by which address of a query a map is used.
type Kind uint8

// A map is used by the address that asks, or by the client subnet in the query (ECS).
const (
	ByResolver Kind = iota
	BySubnet
)

// Use says which map holds for a name, or for all names below it.
type Use struct {
	Name  record.Name
	Below bool
	Kind  Kind
	Map   string
}

// Atlas is maps and where they are used.
type Atlas struct {
	Maps map[string][]Entry
	Uses []Use
}
