package protocol

// chain has the names that one response went through: the question, then the
// targets of CNAMEs, found or synthesised.
type chain struct {
	len    int
	links  [maxChain + 2]link
	places [maxChain + 2]place
	bases  [maxChain + 2]place // of the RDATA of the DNAME that redirects the name
	rooms  [maxChain + 2][255]byte
}

// link is one name of the chain and where it stands in the message.
type link struct {
	name  []byte // of the first one: not set
	place *place
}

// maxChain is how many CNAMEs one response follows; BIND 9.18 follows 11.
const maxChain = 16

// begin starts with the question's name of n octets.
func (c *chain) begin(n int) {
	c.len = 1
	c.places[0] = place{at: headerSize, n: n}
	c.links[0] = link{place: &c.places[0]}
}

// last is the newest name.
func (c *chain) last() *link { return &c.links[c.len-1] }

// room is where a synthesised next name can be put.
func (c *chain) room() []byte { return c.rooms[c.len][:0] }

// take enters the next name, which stands at p. It is false, and nothing is entered,
// when the chain was there before or is at its end.
func (c *chain) take(question, name []byte, p place) bool {
	if c.len > maxChain || string(question) == string(name) {
		return false
	}
	for i := 1; i < c.len; i++ {
		if string(c.links[i].name) == string(name) {
			return false
		}
	}
	// p may be in the scratch that the next RRset reuses; name is not: it is in the
	// data, or in rooms.
	c.places[c.len] = p
	c.links[c.len] = link{name, &c.places[c.len]}
	c.len++
	return true
}
