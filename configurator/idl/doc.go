// Package idl reads Thrift IDL at run time: types, constants and defaults of *.thrift
// files, checks values against them and writes those as canonical JSON.
//
// It reads the language of the Thrift compiler 0.17 and understands a file as that
// does (tests compare with `thrift --gen xml`). Of annotations it knows min, max,
// pattern and length, which bound values; others are kept and mean nothing.
//
// Invariant: a file that Resolve has accepted has every name resolved, every constant
// and default checked; equal values of a type give equal JSON, and
// DecodeJSON∘AppendJSON gives a value back.
//
// In: *.thrift files and JSON, untrusted and bounded. Out: File, Type, Value.
package idl
