// Package cookie makes and checks DNS server cookies: RFC 7873 in the one
// construction that servers of all makers share (RFC 9018 §4).
//
// Invariant: equal secrets, client cookie, client address and time give equal
// octets on every host of a fleet; no octets from the network make it fail or
// allocate; only a cookie that somebody with one of the secrets made for that very
// client is Good or Renew.
//
// In: a file of secrets, COOKIE options from anybody, the time. Out: server cookies
// and verdicts.
package cookie
