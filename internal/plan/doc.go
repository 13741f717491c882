// Package plan is what a change of claims would do to what is published, in a form that
// people look at before they agree.
//
// Invariant: a plan's digest stands for what was agreed to: which configurations and claims
// change, and which of the claims hold. It does not depend on what moves by itself (traffic,
// what guards have counted, claims of others about other names, lines of files). Every list
// is bounded and says how much is left out; text of whatever origin is made harmless where
// it is written.
//
// In: what control found out. Out: a digest, JSON, text, Markdown.
package plan
