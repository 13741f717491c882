//go:build !linux

package loopback

import (
	"errors"
	"net/netip"
)

// Addresses are those that were added.
type Addresses struct{}

// Add is for Linux.
func Add(string, []netip.Addr, []netip.Addr) (*Addresses, error) {
	return nil, errors.New("addresses of VIPs are managed on Linux alone: --announcer-loopback= leaves them to you")
}

// Added are those that go with this process.
func (a *Addresses) Added() []netip.Addr { return nil }

// Remove takes away what Add added.
func (a *Addresses) Remove() error { return nil }
