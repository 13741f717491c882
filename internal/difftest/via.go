package difftest

// Via is how a question goes out.
type Via uint8

// The ways. Those with EDNS say so with what they offer in octets, but for TCP,
// which offers 1232; those with DO ask for DNSSEC.
const (
	UDP1232 Via = iota
	UDP4096
	UDP512 // without EDNS
	TCP    // EDNS and DO
	UDP1232DO
	UDP4096DO
	UDP100   // EDNS offering 100 octets: taken for 512 (RFC 6891 §6.2.3)
	TCPPlain // without EDNS
	vias
)

// way is what a Via means.
type way struct {
	name    string
	tcp, do bool
	edns    uint16 // octets offered; zero means no EDNS
}

func (v Via) way() way {
	return [vias]way{
		UDP1232:   {name: "udp1232", edns: 1232},
		UDP4096:   {name: "udp4096", edns: 4096},
		UDP512:    {name: "udp512"},
		TCP:       {name: "tcp", tcp: true, do: true, edns: 1232},
		UDP1232DO: {name: "udp1232do", do: true, edns: 1232},
		UDP4096DO: {name: "udp4096do", do: true, edns: 4096},
		UDP100:    {name: "udp100", edns: 100},
		TCPPlain:  {name: "tcpplain", tcp: true},
	}[v]
}

func (v Via) String() string { return v.way().name }

// overTCP is the way to ask for what did not fit.
func (v Via) overTCP() Via {
	if w := v.way(); w.edns == 0 || !w.do {
		return TCPPlain
	}
	return TCP
}
