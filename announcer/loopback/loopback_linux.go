package loopback

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
)

// Addresses are those that were added.
type Addresses struct {
	device string
	added  []netip.Addr
}

// Add gives the device the addresses that it has not yet, each alone in its network. ours are
// those that an earlier life added and, being killed, did not take away: they are taken for
// added, and those of them that are not among addrs are taken away.
func Add(device string, addrs, ours []netip.Addr) (*Addresses, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	a := &Addresses{device: device}
	for _, addr := range ours {
		if !slices.Contains(addrs, addr) {
			a.added = append(a.added, addr)
		}
	}
	if err := a.Remove(); err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		err := netlink.AddrAdd(link, of(addr))
		switch {
		case errors.Is(err, syscall.EEXIST):
			if slices.Contains(ours, addr) {
				a.added = append(a.added, addr)
			}
			continue
		case errors.Is(err, syscall.EPERM):
			err = fmt.Errorf("%w: that takes the capability CAP_NET_ADMIN", err)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("add %s to %s: %w", addr, device, err), a.Remove())
		}
		a.added = append(a.added, addr)
	}
	return a, nil
}

// Added are those that go with this process.
func (a *Addresses) Added() []netip.Addr { return slices.Clone(a.added) }

// Remove takes away what Add added.
func (a *Addresses) Remove() error {
	link, err := netlink.LinkByName(a.device)
	if err != nil {
		return fmt.Errorf("device %s: %w", a.device, err)
	}
	var errs []error
	for _, addr := range a.added {
		if err := netlink.AddrDel(link, of(addr)); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove %s from %s: %w", addr, a.device, err))
		}
	}
	a.added = nil
	return errors.Join(errs...)
}

func of(a netip.Addr) *netlink.Addr {
	out := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is6() {
		out.Flags = syscall.IFA_F_NODAD // it is the same on many hosts, which is meant
	}
	return out
}
