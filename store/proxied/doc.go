// Package proxied is the store as seen through the proxy of a site (package proxy/site).
//
// Invariant: as package store says for every engine, but: reads may be behind what others
// committed by as long as the proxy has not heard of it, and by as long as the site is cut off;
// what a client has seen it never sees older; a session's transaction without conditions is
// acknowledged when the proxy has it, if the store is away, and no longer read from there then;
// nobody is elected here.
//
// In: a listener of a proxy, which can withhold and is not otherwise trusted. Out: store.Store,
// and an HTTP client that fetches snapshots from the proxy.
package proxied
