// Package repo keeps the sources of the configuration in a git repository: a bare one
// of its own, or a branch of somebody else's that it follows.
//
// Invariant: the branch moves from one commit to the next by one compare-and-set, and
// what it moves to is wholly in the repository by then: after a crash at any point it
// has moved or it has not. A branch that was moved by anybody else than this package
// (in a repository that is followed: moved otherwise than forward) is not taken until a
// person accepts it; Tip gives the last commit that was good, and a *Rewritten that
// names both. Files that are read are regular files with bounded sizes, numbers, depths
// and names: symbolic links and submodules are refused, never followed.
//
// In: the git command, 2.36 or newer, without hooks and without anybody's
// configuration. Out: trees as fs.FS, merges, commits.
package repo

// Objects and references are written by the git command, so that what it checks and
// locks is checked and locked: a landing is `git unpack-objects`, which is handed a pack
// of all new objects (`git index-pack` when they are many), and `git update-ref --stdin` after it. Objects are read by one
// `git cat-file --batch-command` that stays: it finds what a repack has moved. Trees are
// kept in memory by their hash once they were checked, so that a commit which differs in
// one file from the one before costs the folders above that file.
//
// git moves the references of one transaction one after the other. Three of them are
// moved here, each in a transaction of its own, and settle goes on from wherever that
// was cut:
//
//	refs/zonecast/next  the commit that the branch is about to be moved to
//	refs/heads/main     the branch
//	refs/zonecast/tip   where this package has last seen or put the branch
//
// The branch is at tip: nothing happens. It is at next: the last step is missing. It is
// anywhere else: somebody else moved it.
