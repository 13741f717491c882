// Package packet moves DNS messages between sockets and a Handler: UDP with several
// sockets for each address, and TCP. It reads no message.
//
// Invariant: a response leaves from the address the query came to. Memory and time
// that a client can take are bounded: connections overall and of one client, how
// long one may be silent, take for a message or leave a response unread. Run
// returns when every goroutine it started has ended.
//
// The seam for faster I/O (batches, XDP) is Handler: octets in, octets appended to
// the caller's buffer. Linux only (SO_REUSEPORT, IP_PKTINFO).
//
// In: addresses and datagrams or streams from anybody. Out: what the Handler gives.
package packet
