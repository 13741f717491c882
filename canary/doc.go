// Package canary is the stage that judges what rings of hosts try: a change goes from ring to
// ring, or is withdrawn with the evidence.
//
// Invariant: a trial goes on to the next ring only when all live hosts of its ring, and those that
// have answered it before, have answered this composition of it for as long as the policy says,
// by this process's own clock, and nothing was found against it. What is not told is no reason to
// go on: without a host in the first ring nothing passes. It is judged again by whoever takes over.
//
// What counts against a trial is more SERVFAIL or NXDOMAIN, or more processor time a query, than
// before on the same hosts; and sampled queries that lose their answer when they are asked of the
// data before and after (package replay).
//
// As others have it: the staged roll-outs of configuration at large sites (canary analysis).
//
// In: trials, hosts' reports and samples, from the store. Out: trial.Judgement, to the store.
package canary
