// Package controlapi is the Thrift service Control, as generated from
// api/control.thrift.
//
// Invariant: it is what scripts/gen-thrift.sh makes of the IDL; nothing is
// written by hand but this comment.
//
// In, out: Thrift messages.
package controlapi
