// Package answer is what all services answer with: Change and Refused, as
// generated from api/answer.thrift.
//
// Invariant: it is what scripts/gen-thrift.sh makes of the IDL; nothing is
// written by hand but this comment.
//
// In, out: Thrift messages.
package answer
