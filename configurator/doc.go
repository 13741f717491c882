// Package configurator keeps what people wrote and landed in force: it follows the branch
// of the configuration's repository (configurator/repo), compiles what is there
// (configurator/compile), and puts the compiled configurations and the claims that follow
// from them into the store. Where the repository is its own it runs the review of proposals
// (configurator/review), too.
//
// Invariant: what is in the store is what one commit of the branch compiles to, all of it:
// configurations, rules and claims become visible in one commit of the store, whatever their
// number. A commit that does not compile leaves the one before in force and says why. A
// store whose configuration comes from a commit that the branch does not have is not
// touched until a person says so.
//
// In: a git repository, acts of operators. Out: tree.Config, claims of the sources
// config/<path>, tree.Source.
package configurator
