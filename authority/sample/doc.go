// Package sample draws questions at random from those that are asked, so that shares of
// the traffic can be told from a few of them.
//
// Every question gets a random ticket, and those with the least tickets are kept ("bottom-k
// sampling"; Cohen, Kaplan, "Summarizing data using bottom-k sketches", PODC 2007). So
// what several Drawers kept of parts of the traffic, or in parts of the time, joins to what
// one of all of it had kept.
//
// Invariant: each question that was added is as likely to be kept as any other, however
// often and in whatever order they come; memory is that of as many as are kept; Add
// allocates nothing. There is nothing in it of who asks.
//
// In: questions, from one goroutine each Drawer. Out: a Draw, for any goroutine.
package sample
