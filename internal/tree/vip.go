package tree

// AllHosts is the host of an order to all of them. Names that start with "@" are no hosts.
const AllHosts = "@all"

// VIPPrefix is the prefix of a VIP's hosts, with a final slash.
func VIPPrefix(vip string) string { return VIPs + vip + "/" }

// VIPHostPath is the path of a VIPHost.
func VIPHostPath(vip, host string) string { return VIPPrefix(vip) + host }

// VIPFloorPath is the path of a VIP's leases, which everybody who withdraws compares and sets.
func VIPFloorPath(vip string) string { return VIPPrefix(vip) + "@floor" }

// VIPOrderPath is the path of the order to a host, or to AllHosts.
func VIPOrderPath(vip, host string) string { return VIPOrders + vip + "/" + host }

// VIPHost is what a host does with a VIP.
type VIPHost struct {
	Host      string   `json:"host"`
	Addresses []string `json:"addresses"` // as announced: prefixes
	State     string   `json:"state"`     // state.State
	Announced bool     `json:"announced"`
	Since     int64    `json:"since_ms"`
	Health    string   `json:"health"`
	Why       string   `json:"why,omitempty"`
	Order     string   `json:"order,omitempty"` // what a person wants, as the host has it
	// Sessions are its routers, "192.0.2.1@65000 established".
	Sessions []string `json:"sessions"`
	// Keep is how many hosts have to stay, as this one counts: a number, and a part of all in
	// percent.
	Keep        int `json:"keep"`
	KeepPercent int `json:"keep_percent"`
}

// VIPFloor has the leases of a VIP: who has withdrawn, or is about to.
type VIPFloor struct {
	Leases []VIPLease `json:"leases"`
}

// VIPLease lets a host withdraw.
type VIPLease struct {
	Host  string `json:"host"`
	Since int64  `json:"since_ms"`
	Why   string `json:"why"`
}

// VIPOrder is what a person wants of a host, or of all.
type VIPOrder struct {
	Order  string `json:"order"` // state.Order
	Since  int64  `json:"since_ms"`
	Author string `json:"author"`
	Reason string `json:"reason"`
	From   string `json:"from"`
}
