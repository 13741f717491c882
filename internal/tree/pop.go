package tree

import "github.com/zonecast/zonecast/geo"

// PoPs is the prefix of the points of presence.
const PoPs = "/pops/"

// PoPPath is the path of a PoP.
func PoPPath(name string) string { return PoPs + name }

// PoP is a point of presence: what people say of it, and what is found of its health.
type PoP struct {
	Latitude  float64 `json:"latitude"`  // degrees, north positive
	Longitude float64 `json:"longitude"` // degrees, east positive
	// Capacity is how much demand it serves, in the unit of what the mapper is told of demand.
	// Zero is nothing: the mapper sends nobody there.
	Capacity  float64  `json:"capacity"`
	Addresses []string `json:"addresses,omitempty"`

	Drained bool   `json:"drained,omitempty"`
	Set     int64  `json:"set_ms"` // when people said the above
	Author  string `json:"author,omitempty"`
	Reason  string `json:"reason,omitempty"`
	From    string `json:"from,omitempty"`

	Down        bool   `json:"down,omitempty"`      // as it was found
	Found       int64  `json:"found_ms,omitempty"`  // when; zero: nothing was found yet
	FoundBy     string `json:"found_by,omitempty"`  // who found it
	FoundReason string `json:"found_why,omitempty"` // why it is taken for down, or up
}

// State is what answers go by: that it was drained is said before that it is down.
func (p PoP) State() geo.State {
	switch {
	case p.Drained:
		return geo.Drained
	case p.Down:
		return geo.Down
	}
	return geo.Up
}
