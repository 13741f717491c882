// Package join puts together what was seen of a measurement by DNS and by HTTP: its number is
// in the names that were asked for and in the report.
//
// DNS tells which resolvers asked for the client, and for which subnet; HTTP tells the
// client's address and the times. Either may come first, more than once, or never; a client's
// queries may come by several resolvers.
//
// Invariant: whatever the order and the number of times in which queries and reports
// come, each measurement that was reported within its time comes out once, with what had come
// until a grace after its report; a second report of it never counts. Memory is bounded; what
// finds no room is refused and counted, so that a flood makes gaps and no repetitions. Time is
// that of the calls, which must not go backwards (a monotonic clock).
//
// In: Asked, Reported. Out: Joined.
package join
