// Package front lets people and their programs at the configuration: it answers the service
// Configuration (api/config.thrift) with what the configurator, its repository and its review
// know and do.
//
// Invariant: whatever comes in is bounded before it is looked at; what is refused says what
// was found and what to do, and nothing of it is done.
//
// In: calls of the API. Out: calls of configurator.Service and review.Review.
package front
