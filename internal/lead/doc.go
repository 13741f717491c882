// Package lead runs a task in the one process that is elected to run it.
//
// Invariant: the task runs only while the process leads, as far as it can know;
// what must be exactly so is fenced in the task's transactions. Between two runs
// there is a pause, so that a task that fails at once does not turn in circles.
//
// In: an election of the store. Out: calls of the task, one after another.
package lead
