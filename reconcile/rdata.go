package reconcile

import (
	"fmt"

	"github.com/zonecast/zonecast/record"
)

// checkRdata tells why rd is not RDATA of the type in canonical form, or nil. It
// looks only at the types that the rules read or that an answer follows; every
// other type is carried as it is.
func checkRdata(t record.Type, rd record.Rdata) error {
	switch t {
	case record.TypeA:
		return size(rd, 4)
	case record.TypeAAAA:
		return size(rd, 16)
	case record.TypeNS, record.TypeCNAME, record.TypePTR, record.TypeDNAME: // RFC 1035 §3.3, RFC 6672 §2.1
		return names(rd, 0, 1, 0)
	case record.TypeSOA: // RFC 1035 §3.3.13: MNAME, RNAME, five numbers
		return names(rd, 0, 2, 20)
	case record.TypeMX: // RFC 1035 §3.3.9: preference, exchange
		return names(rd, 2, 1, 0)
	case record.TypeSRV: // RFC 2782: priority, weight, port, target
		return names(rd, 6, 1, 0)
	case record.TypeTXT:
		return texts(rd)
	}
	return nil
}

func size(rd record.Rdata, want int) error {
	if len(rd) != want {
		return fmt.Errorf("RDATA has %d octets, expected %d", len(rd), want)
	}
	return nil
}

// names checks that rd is before octets, count canonical names, and after octets.
func names(rd record.Rdata, before, count, after int) error {
	if len(rd) < before {
		return fmt.Errorf("RDATA has %d octets, expected more than %d", len(rd), before)
	}
	rest := rd[before:]
	for range count {
		n, err := canonical(rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if len(rest) != after {
		return fmt.Errorf("RDATA has %d octets behind its names, expected %d", len(rest), after)
	}
	return nil
}

// canonical is the length of the name at the front of rd, which must be in lower
// case. It does not allocate: every claim of these types passes here.
func canonical(rd record.Rdata) (int, error) {
	const maxLabel, maxName = 63, 255 // RFC 1035 §2.3.4
	for i := 0; i < len(rd) && i < maxName; {
		n := int(rd[i])
		if n > maxLabel {
			return 0, fmt.Errorf("name in RDATA has the length octet 0x%02x at %d, expected 0 to 63", n, i)
		}
		if n == 0 {
			return i + 1, nil
		}
		for _, c := range []byte(rd[i+1 : min(i+1+n, len(rd))]) {
			if 'A' <= c && c <= 'Z' {
				return 0, fmt.Errorf("name in RDATA is not in lower case (RFC 4034 §6.2)")
			}
		}
		i += n + 1
	}
	return 0, fmt.Errorf("name in RDATA does not end within %d octets", min(len(rd), maxName))
}

// texts checks that rd is character strings (RFC 1035 §3.3), one at least.
func texts(rd record.Rdata) error {
	if rd == "" {
		return fmt.Errorf("RDATA is empty, expected character strings")
	}
	for i := 0; i < len(rd); {
		i += 1 + int(rd[i])
		if i > len(rd) {
			return fmt.Errorf("character string in RDATA is cut off")
		}
	}
	return nil
}

// target is the name that NS, CNAME, PTR or DNAME RDATA is; the claim has passed
// checkRdata.
func target(rd record.Rdata) record.Name { return record.Name(rd) }
