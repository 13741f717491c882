// Package candidate stands in elections for the sessions of an engine, which differ in how
// they wait for a leader to go and how they take back what they may have made.
//
// Invariant: a session stands once at a path at a time. Who is told that it leads made the
// node, by the commit that the fence names; who gives up has had taken back what it may have
// made without knowing.
//
// In: commits of a session. Out: store.Leadership.
package candidate
