// Package service is the daemon kit: tasks that live and die together, options
// from flag, variable and file, counters, status, logs and shutdown.
//
// Invariant: a Service either has every task running (or waiting out the pause
// its restart policy asked for), or is on its way down: nothing ends unnoticed.
// Tasks start in the order they were added and stop in the reverse order, each
// awaited for a bounded time before the next is told to stop. An option has one
// value and one known origin, and the higher origin always wins: flag, then
// variable, then file, then default.
//
// In: the process's arguments, environment, configuration file and signals, all
// untrusted. Out: contexts that end, metrics, a status, an exit code.
package service

// Why no supervision library. The tree of thejerf/suture starts its children
// together and stops them by cancelling one context for all, waiting for them as
// a heap; the order in which data flows cannot be expressed. A stage must be
// able to finish what it took from the stage before it, so the stop goes upwards,
// one task at a time. What remains to be had from such a library - catching a
// panic and pausing between restarts - is thirty lines of task.go and backoff.go.
