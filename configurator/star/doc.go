// Package star shows the types of Thrift IDL to Starlark: structs are constructors,
// enums have their values as attributes, constants and typedefs are what they say.
//
// Invariant: a value that a constructor has made is checked, immutable, and knows
// where it was made; converting a value to Starlark and back gives an equal value.
//
// In: idl.File, and values of Starlark programs. Out: idl.Value.
package star
