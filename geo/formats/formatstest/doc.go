// Package formatstest runs Debian's gdnsd and knotd for tests, with maps of their modules
// geoip, and asks DNS servers as resolvers do on behalf of clients (ECS, RFC 7871).
//
// Invariant: what it starts answers on loopback only, and ends with the test. All servers are
// asked in one way, and their answers are told in one form.
//
// In: the configuration of maps and databases, clients. Out: records and scopes.
package formatstest
