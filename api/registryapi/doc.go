// Package registryapi is the Thrift service Registry, as generated from
// api/registry.thrift.
//
// Invariant: it is what scripts/gen-thrift.sh makes of the IDL; nothing is
// written by hand but this comment.
//
// In, out: Thrift messages.
package registryapi
