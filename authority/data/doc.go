// Package data holds one version of a dataset in the form that questions are asked
// of it: which zone is a name in, does it exist, where is it delegated away.
//
// Invariant: a View never changes; Apply makes another one, in time proportional to
// the change. A View is an image and the names that changed since it was built; what
// it answers does not depend on which of the two a name is in. A name exists when it
// owns an RRset or a name below it does (RFC 4592 §2.2.2: empty non-terminals exist).
// A SOA is answered with the serial that the dataset gives its zone, not with the
// claimed one.
//
// All zones of a dataset lie in one tree of names. So where parent and child zone
// are both here, the child's apex is a delegation point of the parent whether or
// not the parent's file says so, and the two cannot disagree about its NS.
//
// In: RRsets of a snapshot.Dataset, verified; images. Out: Result, for
// authority/protocol.
package data

// A question's name is hashed once, all its suffixes with it. That a name exists
// implies that those above it do: the closest encloser is found by bisection over
// the number of labels. What else depends on the names above - which zone, is there
// a cut or a DNAME on the way - is looked for only at the numbers of labels at which
// the dataset has an apex or a cut at all (image.Depths), which are few; and not at
// all for a name whose node says that it is settled, as long as no change touched an
// apex or a cut since the image was built.
