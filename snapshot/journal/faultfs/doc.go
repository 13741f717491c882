// Package faultfs is a file system in memory that crashes, or fails, at a chosen
// call, for tests of what is to survive that.
//
// Invariant: what was synced is there after every crash; what was not is kept,
// lost or torn as the Loss says. Only a name whose directory was synced after it
// changed is sure to be there.
//
// In: the calls of a journal. Out: the file system after the crash.
package faultfs
