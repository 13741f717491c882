// Package compile turns a tree of sources into configurations: Starlark files
// (*.star) that load one another and types (*.thrift), and export values.
//
// Programs run in a child process with bounds on steps, memory and time; what it
// answers is checked. Validators (<Type>.validate.star) run with every compilation,
// tests (*_test.star) when asked for.
//
// Invariant: equal trees give equal bytes, whatever was compiled before and in
// whatever order; the result is of the whole tree or there are Errors, each with
// file:line:column.
//
// In: a tree of files, untrusted. Out: Result.
package compile

// Reasons, for those who change this package:
//
// A source is parsed once (unit), evaluated once (module) and kept. A module is used
// again when its unit and the modules it loads are the very same ones, so that what a
// change reaches needs no other bookkeeping. A tree is maps of units and modules; the
// next one is a copy of the maps with some entries changed. The child keeps the last
// few trees: a proposal is compiled against the tree it starts from.
//
// Steps bound loops, not memory (`x = x + x` needs forty of them for a terabyte), and
// not time either (max(range(1 << 40)) is one step). So the child has RLIMIT_DATA, and
// the parent a clock. What ends a child that way is tried once more with one worker
// in a fresh child, to name the file at which it happens.
