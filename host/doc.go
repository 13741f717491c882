// Package host runs the daemons of a DNS host and keeps them running.
//
// Invariant: a part is ended only when a person asks for it, when it does not answer for
// a while - unless its end takes routes back - or when this process ends without leaving it. The authority is never ended
// for another one to begin: its successor takes its sockets over first. That this
// process dies ends nobody; its next life finds the processes and takes them over.
//
// In: what parts there are, and their command lines. Out: processes, or commands of the
// manager that has them (runit, systemd); what became of them.
package host
