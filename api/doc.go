// Package api carries the Thrift services over a network: the IDL is in the
// .thrift files here, the generated code in the folders below.
//
// On the wire: framed (u32 length, big endian), compact protocol, multiplexed
// ("Registry:renew"), so that one port has all services and any Thrift client
// with these three settings can talk to it.
//
// Invariant: a peer cannot make the process hold more than the bounds of
// ServerConfig say (connections, octets of calls in flight, time without
// progress); a call ends when its context ends; Serve returns only when every
// goroutine it started has ended.
//
// In: connections, untrusted. Out: calls of the services' handlers. A handler
// returns a bare *answer.Refused (see Refuse), never a wrapped one: generated code
// does not look inside.
package api
