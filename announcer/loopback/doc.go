// Package loopback gives this host the addresses of its VIPs, on the loopback device, so that it
// takes in what routers send there.
//
// Invariant: an address that was there before stays when this process ends; one that it
// added goes with it, unless it is told to leave it; when it is killed, with the next one that is
// told of it.
//
// As others have it: ExaBGP's healthcheck --ip-setup does the same by running ip(8).
//
// In: addresses, the name of a device. Out: addresses of the kernel (netlink).
package loopback
