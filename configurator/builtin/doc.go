// Package builtin is what comes with the language of configuration: the types of
// zonecast.thrift, the functions of zonecast.star, and what a Zone or Records means
// as claims.
//
// Invariant: records mean what they would mean in a zone file of the same names
// (package internal/zonefile); the claims of a value are all of it or there is an
// error, which says where in a program the record was made.
//
// In: values of the types of zonecast.thrift. Out: record.Claim.
package builtin
