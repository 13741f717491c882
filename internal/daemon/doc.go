// Package daemon runs a server that is somebody else's program as a child, for a stage
// that configures it.
//
// Invariant: at most one process of a pid file is there. One that outlived its parent
// goes on serving, is found by the next parent and taken over, not started twice. What
// the program says is logged, and its saying never makes it wait: lines that are not
// read in time are lost. One that ends is started again, with a pause that doubles
// while it lives shortly.
//
// In: a command. Out: a process, its lines as log lines, what became of it.
package daemon
