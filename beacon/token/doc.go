// Package token makes and checks the first label of beacon names.
//
// A token has a number, the time when it was made and an authenticator (HMAC-SHA-256,
// RFC 2104), so that what comes back by DNS and by HTTP is of one measurement that was
// begun here, not long ago.
//
// Invariant: Verify takes a token only if a key of the set made it, within its life and the
// clocks' skew; which octet of a forged one was wrong is not to be told from how long
// it took. A token is a label of at most 63 octets, and may come back in upper and lower case
// mixed, as some resolvers send names.
//
// In: a file of keys, labels from outside. Out: tokens.
package token
