// Package snapshot is a dataset at one version: in memory, as a file, as the
// delta that leads to it, and the signed manifest that points at it.
//
// Invariant: a Dataset is always exactly one version; Apply changes it whole or
// not at all, and only when version, base digest, chain and resulting digest all
// come out. Equal datasets have equal digests, and equal datasets with equal
// stamps give equal files. Every format is bounded, and re-encoding what was
// decoded gives the same octets.
//
// In: RRsets, and bytes from anywhere, untrusted. Out: verified datasets.
//
// The formats are drawn in docs/format: rrset.md, snapshot.md, delta.md and
// manifest.md.
package snapshot
