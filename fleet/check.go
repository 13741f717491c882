package fleet

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Options a server may have; all are for its SRV record (RFC 2782).
const (
	OptionPort     = "port"     // 1 to 65535; without it there is no SRV record
	OptionProtocol = "protocol" // tcp (when missing), udp or sctp
	OptionPriority = "priority" // 0 to 65535; 0 when missing
	OptionWeight   = "weight"   // 0 to 65535; 0 when missing
)

// Check tells why s is no server, or nil.
func (s Server) Check() error {
	if s.Name == "" {
		return errors.New("server has no name, expected a domain name such as web1.example.net")
	}
	if err := checkName(s.Name); err != nil {
		return err
	}
	if err := s.checkRest(); err != nil {
		return fmt.Errorf("server %s: %w", s.ID(), err)
	}
	return nil
}

func (s Server) checkRest() error {
	if len(s.Addresses) == 0 {
		return errors.New("addresses are missing, expected at least one IPv4 or IPv6 address")
	}
	if len(s.Addresses) > MaxAddresses {
		return fmt.Errorf("%d addresses, at most %d", len(s.Addresses), MaxAddresses)
	}
	seen := make(map[netip.Addr]bool, len(s.Addresses))
	for _, a := range s.Addresses {
		if err := CheckAddress(a); err != nil {
			return err
		}
		if seen[a] {
			return fmt.Errorf("address %s stands twice", a)
		}
		seen[a] = true
	}
	if err := checkElement("role", s.Role, MaxRole); err != nil {
		return err
	}
	if strings.Contains(s.Role, ".") {
		return fmt.Errorf("role %q has a dot, expected one label of a domain name", s.Role)
	}
	if err := checkElement("site", s.Site, MaxElement); err != nil {
		return err
	}
	if s.Cluster != "" {
		if err := checkElement("cluster", s.Cluster, MaxRole+1+MaxElement); err != nil {
			return err
		}
	}
	if s.TTL > record.MaxTTL {
		return fmt.Errorf("ttl is %d seconds, at most %d (RFC 2181 §8)", s.TTL, record.MaxTTL)
	}
	if err := checkOptions(s.Options); err != nil {
		return err
	}
	if _, err := s.Service(); err != nil {
		return fmt.Errorf("service name of role %s: %w", s.Role, err)
	}
	if _, err := s.ServiceSRV(); err != nil {
		return fmt.Errorf("SRV name of role %s: %w", s.Role, err)
	}
	if err := checkText("author", s.Author); err != nil {
		return err
	}
	if err := checkText("reason", s.Reason); err != nil {
		return err
	}
	return checkOrigin(s.Origin)
}

// checkName keeps names that make sense as a machine's: not the root, at least
// two labels (the domain is where its service names go), no wildcard, and no
// octet that the store's paths cannot hold as it is.
func checkName(n record.Name) error {
	text := ID(n)
	if n.Labels() < 2 {
		return fmt.Errorf("server name %q has %d labels, expected a host in a domain such as web1.example.net", text, n.Labels())
	}
	// A name in presentation form may have up to 1004 octets (all escaped), a path
	// element of the store 255: letters, digits, hyphen and underscore need none.
	for _, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return fmt.Errorf("server name %q has the character %q, expected letters, digits, '-', '_' and dots (RFC 952, RFC 2782)", clip(text), c)
		}
	}
	return nil
}

// CheckAddress tells why a cannot be a server's address, or nil. Refused are
// addresses that mean something else on each machine (unspecified, loopback,
// link-local), several machines (multicast, the IPv4 broadcast address), and
// forms that are not canonical (a zone, IPv4 in IPv6), because one address in two
// forms would have two owners.
func CheckAddress(a netip.Addr) error {
	why := ""
	switch {
	case !a.IsValid():
		return errors.New("address is empty, expected an IPv4 or IPv6 address")
	case a.Zone() != "":
		why = "has a zone; expected the address without %" + clip(a.Zone())
	case a.Is4In6():
		why = "is IPv4 written as IPv6; expected " + a.Unmap().String()
	case a.IsUnspecified():
		why = "is the unspecified address"
	case a.IsLoopback():
		why = "is a loopback address, which is another machine for everybody"
	case a.IsLinkLocalUnicast():
		why = "is link-local, which nobody beyond the link can reach"
	case a.IsMulticast():
		why = "is a multicast address, expected the address of one machine"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		why = "is the broadcast address, expected the address of one machine"
	default:
		return nil
	}
	return fmt.Errorf("address %s %s", a, why)
}

// ParseAddress reads and checks an address.
func ParseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("address %q is none, expected IPv4 such as 192.0.2.1 or IPv6 such as 2001:db8::1", clip(text))
	}
	return a, CheckAddress(a)
}

// checkElement keeps role, site and cluster what they are used as: one element of
// a store path (never "." or ".."), and, split at dots, labels of a domain name.
func checkElement(field, v string, most int) error {
	if v == "" {
		return fmt.Errorf("%s is missing", field)
	}
	if len(v) > most {
		return fmt.Errorf("%s %q has %d octets, at most %d", field, clip(v), len(v), most)
	}
	for _, c := range []byte(v) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return fmt.Errorf("%s %q has the character %q, expected lower case letters, digits, '-', '_' and '.'", field, clip(v), c)
		}
	}
	for _, label := range strings.Split(v, ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%s %q has a part of %d octets between its dots, expected 1 to 63", field, clip(v), len(label))
		}
	}
	return nil
}

func checkOptions(o map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(o)) {
		v := o[k]
		low, high := uint64(0), uint64(65535)
		switch k {
		case OptionProtocol:
			if v != "tcp" && v != "udp" && v != "sctp" {
				return fmt.Errorf("option protocol is %q, expected tcp, udp or sctp", clip(v))
			}
			continue
		case OptionPort:
			low = 1
		case OptionPriority, OptionWeight:
		default:
			return fmt.Errorf("option %q is unknown, expected port, protocol, priority or weight", clip(k))
		}
		n, err := strconv.ParseUint(v, 10, 16)
		// FormatUint: "080" and "+80" would be other bytes for the same data.
		if err != nil || n < low || n > high || strconv.FormatUint(n, 10) != v {
			return fmt.Errorf("option %s is %q, expected a number from %d to %d", k, clip(v), low, high)
		}
	}
	if _, ok := o[OptionPort]; !ok && len(o) > 0 {
		return fmt.Errorf("option %s is of no use without port; give port, too", slices.Sorted(maps.Keys(o))[0])
	}
	return nil
}

func knownOption(k string) bool {
	return k == OptionPort || k == OptionProtocol || k == OptionPriority || k == OptionWeight
}

func checkText(field, v string) error {
	if len(v) > MaxText {
		return fmt.Errorf("%s has %d octets, at most %d", field, len(v), MaxText)
	}
	if strings.ToValidUTF8(v, "") != v {
		return fmt.Errorf("%s is not UTF-8", field)
	}
	return nil
}

func checkOrigin(o string) error {
	file, isFile := strings.CutPrefix(o, OriginFile)
	if o != OriginCall && (!isFile || file == "" || len(file) > MaxElement) {
		return fmt.Errorf("origin is %q, expected %q or %q and a file's name", clip(o), OriginCall, OriginFile)
	}
	return nil
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
