// Package presenter is the stage that reconciles claims into the versions of a
// dataset.
//
// Invariant: a version is one store transaction that holds only if the head is
// the version before it and this process leads, so that there is never more than
// one version v. What is published is what reconcile makes of the claims of one
// store revision: a commit to /claims is wholly in a version or not at all.
// Delta times never go down.
//
// No version is made while there are no claims at all, nor while this process has
// seen less of the claims than the head has: both are held, and said in Status.
//
// What it made it keeps until a publisher has signed it, at most 64 MiB: the log has it
// from nobody else when it is lost there.
//
// A presenter keeps no snapshot.Dataset: the digest follows from what reconcile
// says was replaced and put. At its start it reads the published dataset (package
// follow); when that cannot be had, and the reconciled digest is not the head's,
// the next version has the dataset whole.
//
// In: claims, from the store. Out: deltas and the head of the dataset, to the
// store. Nothing is kept elsewhere: another process can go on at any moment.
package presenter
