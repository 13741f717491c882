// Package zonecast is the root of the module and holds no code: the listing of
// its folders is the architecture, in the order in which data flows.
//
//	record fleet reconcile snapshot   the nouns, pure but for snapshot/journal
//	store                             the watched tree in which the stages meet, and its engines
//	service                           the daemon kit
//	registry rules mutator update     observe: servers and files become claims
//	presenter publisher               reconcile and publish: claims become signed versions
//	agent authority                   deliver and answer, on every DNS host
//	control monitor                   the side people talk to, and the one that watches
//	api                               Thrift IDL and the code made from it
//	internal                          mechanisms that stay free to change
//	cmd/zonecast                      the one binary; it alone puts stages together
//
// Invariant: imports follow the table in arrows_test.go, which says of every
// package what it is, and of every module of others who may use it and why.
package zonecast
