// Package places looks up where prefixes are: AS, country, continent and coordinates, in the
// databases that people have.
//
// Invariant: one place for each prefix, that of its first address; nothing is known where
// the databases say nothing. A database that is damaged anywhere that is looked at is an error.
//
// In: prefixes, and databases in the MaxMind format (package mmdb). Out: places.
package places
