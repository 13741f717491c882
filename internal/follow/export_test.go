package follow

// ReadFile is readFile.
var ReadFile = readFile

// LargeHeld is octets of large deltas that are kept.
func (f *Follower) LargeHeld() int {
	n := 0
	for _, b := range f.large.have {
		n += len(b)
	}
	return n
}
