package idl

// ResolvedForTest gives the value of a literal.
func ResolvedForTest(l *Literal) Value { return l.value }
