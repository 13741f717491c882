// Package presenter is the stage that reconciles claims into the versions of a
// dataset.
//
// Invariant: a version is one store transaction that holds only if the head is
// the version before it and this process leads, so that there is never more than
// one version v. What is published is what reconcile makes of the claims of one
// store revision: a commit to /claims is wholly in a version or not at all.
// Delta times never go down.
//
// In: claims, from the store. Out: deltas and the head of the dataset, to the
// store. Nothing is kept elsewhere: another process can go on at any moment.
package presenter
