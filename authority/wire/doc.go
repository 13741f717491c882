// Package wire moves DNS messages between sockets and a Handler, in batches: UDP with
// several sockets for each address, and TCP. It reads no message.
//
// Invariant: a response leaves from the address the query came to, and is never
// fragmented. Memory and time that a client can take are bounded: connections overall
// and of one client, how long one may be silent, take for a message or leave a
// response unread. Run returns when every goroutine it started has ended. Sockets that
// were handed over lose no datagram that was in them.
//
// In: addresses and datagrams or streams from anybody. Out: what the Handler gives.
// Linux only.
package wire

// UDP goes by recvmmsg and sendmmsg on raw descriptors, a thread each: while there is
// traffic they are called past Go's scheduler, which at a million packets a second
// would cost as much as the answer; when there is none the thread sleeps in the call.
//
// TCP goes by epoll in a few goroutines. A connection that is silent costs an entry
// and nothing else: what has arrived of a message is kept only while there is some.
// All messages that have arrived are answered as one batch and written by one call,
// in whatever order the Handler leaves them; a Handler that answers later would need
// a way to hand responses in, which nothing needs yet.
