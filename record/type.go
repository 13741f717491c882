package record

import (
	"fmt"
	"strconv"
	"strings"
)

// Type is an RR type (RFC 1035 §3.2.2 and the IANA registry).
type Type uint16

// The types this project treats specially; every other type is carried as it is.
const (
	TypeA     Type = 1
	TypeNS    Type = 2
	TypeCNAME Type = 5
	TypeSOA   Type = 6
	TypePTR   Type = 12
	TypeMX    Type = 15
	TypeTXT   Type = 16
	TypeAAAA  Type = 28
	TypeSRV   Type = 33
	TypeDNAME Type = 39
	TypeOPT   Type = 41
	TypeDS    Type = 43
	TypeRRSIG Type = 46
	TypeNSEC  Type = 47
	TypeSVCB  Type = 64
	TypeHTTPS Type = 65
	TypeIXFR  Type = 251
	TypeAXFR  Type = 252
	TypeANY   Type = 255
	TypeCAA   Type = 257
)

// typeNames has the mnemonics of the IANA registry that zone files use.
var typeNames = map[Type]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 14: "MINFO", 15: "MX", 16: "TXT", 17: "RP",
	18: "AFSDB", 19: "X25", 20: "ISDN", 21: "RT", 22: "NSAP", 23: "NSAP-PTR", 24: "SIG", 25: "KEY", 26: "PX", 27: "GPOS", 28: "AAAA",
	29: "LOC", 33: "SRV", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL", 43: "DS", 44: "SSHFP", 45: "IPSECKEY",
	46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 55: "HIP",
	59: "CDS", 60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS", 99: "SPF", 104: "NID",
	105: "L32", 106: "L64", 107: "LP", 108: "EUI48", 109: "EUI64", 249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR",
	255: "ANY", 256: "URI", 257: "CAA", 258: "AVC", 32769: "DLV",
}

var typeNumbers = func() map[string]Type {
	m := make(map[string]Type, len(typeNames))
	for t, s := range typeNames {
		m[s] = t
	}
	return m
}()

// String gives the mnemonic, or TYPEnnn (RFC 3597 §5) for a type without one.
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// ParseType reads a mnemonic in any case, or TYPEnnn.
func ParseType(text string) (Type, error) {
	up := strings.ToUpper(text)
	if t, ok := typeNumbers[up]; ok {
		return t, nil
	}
	if num, ok := strings.CutPrefix(up, "TYPE"); ok {
		if v, err := strconv.ParseUint(num, 10, 16); err == nil {
			return Type(v), nil
		}
	}
	return 0, fmt.Errorf("type %q is unknown, expected a mnemonic such as AAAA or TYPEnnn (RFC 3597)", clip(text))
}

// IsData tells whether RRsets of the type can be in a dataset: not the meta types
// and question types (RFC 6895 §3.1), nor 0.
func (t Type) IsData() bool { return t != 0 && t != TypeOPT && (t < 128 || t > 255) }

// MarshalText and UnmarshalText make types read well in JSON.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (t *Type) UnmarshalText(b []byte) (err error) {
	*t, err = ParseType(string(b))
	return err
}
