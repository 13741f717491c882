// Package review lets people and robots change the configuration: they propose, others
// approve, and what was approved lands on the branch of the repository.
//
// Invariant: what lands is what was approved. An approval names the proposed commit and
// the digest of the plan that its approver saw; when the plan on top of what the branch
// has by then is another, it does not count. The policy is the file OWNERS of the commit
// that a proposal lands on, never of the proposal. A landing is one compare-and-set of
// the branch: a proposal has landed if and only if the branch has its commit, also after
// a crash. Nobody approves their own.
//
// Landings happen one after the other in the order in which they were asked for, and each
// is merged on top of what landed before: changes of different things never wait for
// anybody. A true conflict is refused, and names both changes.
//
// In: acts of operators, who the caller has made sure of; a Planner. Out: commits on the
// branch, and the history of every proposal in references of the same repository.
package review

// A proposal is two references:
//
//	refs/proposals/7/head  the commit that is proposed, for people to fetch
//	refs/proposals/7/log   a commit for each act, newest last; its file proposal.json is
//	                       the proposal after it
//
// log counts: head follows from it. Every commit that was ever proposed is a parent of a
// commit of log, so that nothing of it is ever thrown away.
