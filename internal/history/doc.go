// Package history is how the versions of a dataset that changed its content are kept in
// the store, and the way back from the newest to each of them.
//
// With every such version lies its undo: what leads from it to the content before. Undos
// are chained by the digests at both ends, so that a way back either comes out at the
// content that was, or says that it cannot.
//
// Invariant: what Back gives, applied to the published dataset, has the digest that the
// version had. Freshness records belong to no content and are in no undo.
//
// In: what a presenter changes, and the store. Out: nodes of the store, and from there
// again RRsets as they were.
package history
