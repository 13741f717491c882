package compliance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Transport is how a query is sent.
type Transport uint8

// The transports.
const (
	UDP Transport = iota
	TCP
)

// Case is one query and what is demanded of the response.
type Case struct {
	Name   string // also what ISC's tests call it, where they have it
	Reason string // the RFC that demands it
	Over   Transport
	Query  []byte // its ID is set when it is sent
	want   want
}

// content is what the sections say.
type content uint8

const (
	anything content = iota
	soa              // the answer is the SOA of the zone; empty when the rcode is not NOERROR
	records          // the answer has records
	referral         // the answer is empty, the authority has NS records of a name below the zone
	noData           // the answer is empty, the authority has the zone's SOA
	nothing          // answer and authority are empty
	empty            // all sections are, the question too
)

// presence is whether something has to be there.
type presence uint8

const (
	may presence = iota
	must
	mustNot
)

// want is what is demanded besides what holds for every response.
type want struct {
	silent    bool  // no response at all
	rcodes    []int // one of them
	set       uint16
	clear     uint16
	content   content
	opt       presence
	options   map[int]presence // those not named must not be there, but for the extended error
	tsigError int              // the record that must be there; 0: none
	limit     int              // octets; 0: that of the transport
	// echo is whether the question has to come back: it may always, as it was.
	echo bool
}

// Judge gives what is wrong with the response to the case as it was sent; nil as
// response is silence.
func (c Case) Judge(sent, b []byte) (wrong []string) {
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	switch {
	case b == nil && !c.want.silent:
		return []string{"no response"}
	case b == nil:
		return nil
	case c.want.silent:
		return []string{fmt.Sprintf("a response, want none: %x", b)}
	}
	r, err := parse(b)
	if err != nil {
		return []string{fmt.Sprintf("a malformed response: %v: %x", err, b)}
	}
	c.always(sent, r, report)
	c.header(r, report)
	c.sections(r, report)
	c.edns(r, report)
	return wrong
}

type reporter func(format string, args ...any)

// always checks what holds for every response.
func (c Case) always(sent []byte, r *response, report reporter) {
	flags := binary.BigEndian.Uint16(sent[2:])
	if id := binary.BigEndian.Uint16(sent); r.id != id {
		report("ID %d, want %d", r.id, id)
	}
	if r.flags&flagQR == 0 {
		report("QR is clear")
	}
	if r.flags&opcodeMask != flags&opcodeMask {
		report("opcode %d, want %d", r.flags&opcodeMask>>opcodeShift, flags&opcodeMask>>opcodeShift)
	}
	// RA: it does not recurse (RFC 1035). Z: RFC 1035. AD: RFC 4035 §3.1.6.
	for bit, what := range map[uint16]string{flagRA: "RA", flagZ: "Z", flagAD: "AD"} {
		if r.flags&bit != 0 {
			report("%s is set", what)
		}
	}
	for bit, what := range map[uint16]string{flagRD: "RD", flagCD: "CD"} {
		if r.flags&bit&^flags != 0 {
			report("%s is set, and was not in the query", what)
		}
	}
	if flags&opcodeMask == 0 && flags&flagRD != r.flags&flagRD {
		report("RD is not copied (RFC 1035 §4.1.1)")
	}
	if r.questions > 0 && !bytes.HasPrefix(sent[headerSize:], []byte(r.question)) {
		report("question %x is not that of the query", r.question)
	}
	limit := c.want.limit
	if limit == 0 {
		limit = 512
		if c.Over == TCP {
			limit = 65535
		}
	}
	if r.size > limit {
		report("%d octets, want at most %d", r.size, limit)
	}
}

func (c Case) header(r *response, report reporter) {
	if !slices.Contains(c.want.rcodes, r.rcode) {
		report("rcode %s, want %s", rcodeName(r.rcode), rcodeNames(c.want.rcodes))
	}
	if missing := c.want.set &^ r.flags; missing != 0 {
		report("flags %s are clear", flagNames(missing))
	}
	if extra := c.want.clear & r.flags; extra != 0 {
		report("flags %s are set", flagNames(extra))
	}
}

func (c Case) sections(r *response, report reporter) {
	answer, authority := r.sections[0], r.sections[1]
	isSOA := func(s []rr) bool {
		return len(s) == 1 && s[0].rtype == typeSOA && strings.EqualFold(s[0].owner, wire(Apex))
	}
	switch c.want.content {
	case soa:
		if r.rcode == noError && !isSOA(answer) {
			report("the answer is not the SOA: %v", answer)
		}
		if r.rcode != noError && len(answer) != 0 {
			report("answer %v, want none", answer)
		}
	case referral:
		below := func(a rr) bool {
			return a.rtype == typeNS && strings.HasSuffix(a.owner, wire(Apex)) && a.owner != wire(Apex)
		}
		if len(answer) != 0 || !slices.ContainsFunc(authority, below) {
			report("answer %v, authority %v; want only the NS of the cut", answer, authority)
		}
	case records:
		if len(answer) == 0 {
			report("the answer is empty")
		}
	case noData:
		if len(answer) != 0 || !isSOA(authority) {
			report("answer %v, authority %v; want only an SOA in the authority section", answer, authority)
		}
	case nothing, empty:
		if len(answer)+len(authority) != 0 {
			report("answer %v, authority %v; want none", answer, authority)
		}
	}
	if c.want.content == empty && (r.questions > 0 || len(r.sections[2]) > 0) {
		report("question %x, additional %v; want none", r.question, r.sections[2])
	}
	if c.want.echo && r.questions != 1 {
		report("%d questions, want that of the query", r.questions)
	}
	c.tsig(r, report)
}

// tsig looks for the last record of the additional section.
func (c Case) tsig(r *response, report reporter) {
	found := -1
	for i, a := range r.sections[2] {
		if a.rtype == typeTSIG && i == len(r.sections[2])-1 && len(a.rdata) >= 4 {
			found = int(binary.BigEndian.Uint16([]byte(a.rdata[len(a.rdata)-4:])))
		}
	}
	if c.want.tsigError != 0 && found != c.want.tsigError {
		report("TSIG error %d, want %d (-1: there is no TSIG)", found, c.want.tsigError)
	}
}

func (c Case) edns(r *response, report reporter) {
	if r.opt == nil {
		if c.want.opt == must {
			report("no OPT")
		}
		return
	}
	if c.want.opt == mustNot {
		report("an OPT, and the query had none")
	}
	if r.opt.version != 0 {
		report("EDNS version %d, want 0", r.opt.version)
	}
	if r.opt.size < 512 {
		report("EDNS size %d, want 512 at least (RFC 6891 §6.2.3)", r.opt.size)
	}
	if z := r.opt.flags &^ flagDO; z != 0 {
		report("EDNS flags %#04x are set, which must be zero", z)
	}
	if sent := c.sentDO(); c.want.opt == must && r.opt.flags&flagDO != sent {
		report("DO %v, want it copied (RFC 3225 §3)", sent == 0)
	}
	for _, code := range r.opt.codes {
		if p, ok := c.want.options[code]; (!ok || p == mustNot) && code != optionError {
			report("EDNS option %d, which must not be there", code)
		}
	}
	for code, p := range c.want.options {
		if _, ok := r.opt.options[code]; p == must && !ok {
			report("no EDNS option %d", code)
		}
	}
	if v, ok := r.opt.options[optionCookie]; ok && (len(v) < 16 || len(v) > 40 || v[:8] != clientCookie) {
		report("cookie %x, want %x and a server cookie of 8 to 32 octets", v, clientCookie)
	}
	if v, ok := r.opt.options[optionExpire]; ok && len(v) != 4 && len(v) != 0 {
		report("EXPIRE of %d octets, want 4 or none (RFC 7314 §3)", len(v))
	}
}

// sentDO is the DO bit of the query, which stands where opt and optVersion put it:
// before the options, behind the question.
func (c Case) sentDO() uint16 {
	r, err := parse(c.Query)
	if err != nil || r.opt == nil {
		return 0
	}
	return r.opt.flags & flagDO
}

func flagNames(flags uint16) string {
	var names []string
	for i, n := range [...]string{"QR", "", "", "", "", "AA", "TC", "RD", "RA", "Z", "AD", "CD"} {
		if flags>>(15-i)&1 != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, " ")
}

// Response codes (IANA).
const (
	noError   = 0
	formErr   = 1
	servFail  = 2
	nxDomain  = 3
	notImp    = 4
	refused   = 5
	notAuth   = 9
	badVers   = 16
	badCookie = 23

	badKey = 17 // of a TSIG
)

func rcodeName(r int) string {
	names := map[int]string{
		noError: "NOERROR", formErr: "FORMERR", servFail: "SERVFAIL", nxDomain: "NXDOMAIN", notImp: "NOTIMP",
		refused: "REFUSED", notAuth: "NOTAUTH", badVers: "BADVERS", badCookie: "BADCOOKIE",
	}
	if n, ok := names[r]; ok {
		return n
	}
	return fmt.Sprint(r)
}

func rcodeNames(rs []int) string {
	var names []string
	for _, r := range rs {
		names = append(names, rcodeName(r))
	}
	return strings.Join(names, " or ")
}
