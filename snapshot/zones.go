package snapshot

import "github.com/zonecast/zonecast/record"

// zones
type zones struct{}

func newZones() zones         { return zones{} }
func (z zones) clone() zones { return z }

// Zones gives each zone's apex - the owner of a SOA, for whatever location - and
// the version that last changed the zone. The map is the caller's.
func (d *Dataset) Zones() map[record.Name]uint64 { return nil }

// Stamp is the version that last changed the zone; false when apex has no SOA.
func (d *Dataset) Stamp(apex record.Name) (uint64, bool) { return 0, false }

// ZoneOf is the apex of the zone that name is in: the nearest at or above it.
func (d *Dataset) ZoneOf(name record.Name) (apex record.Name, ok bool) { return "", false }

// Serial is the serial number to answer for the zone: the claimed one plus the
// zone's stamp, modulo 2^32. 0 when apex has no SOA. The SOA for everybody
// counts; where there is none, the one of the least location.
func (d *Dataset) Serial(apex record.Name) uint32 { return 0 }

// SOASerial reads the serial out of a SOA's RDATA (RFC 1035 §3.3.13): the first
// four octets behind two names.
func SOASerial(rdata record.Rdata) (uint32, error) { return 0, nil }

// SOAWithSerial is rdata with another serial. RDATA that is no SOA comes back as
// it is.
func SOAWithSerial(rdata record.Rdata, serial uint32) record.Rdata { return rdata }
