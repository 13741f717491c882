package tinydns

import "math"

// taiUnix is the TAI64 label of 1970-01-01 as tinydns counts: it takes the system's
// unix time, without leap seconds, and adds this (libtai, tai_unix: 2^62 + 10).
const taiUnix = 1<<62 + 10

// start gives the first unix second at which a record holds whose TAI64 label is ts
// and whose TTL is not zero: tinydns waits until ts < now. Zero: it has always held.
func start(ts uint64) int64 {
	if ts == 0 || ts < taiUnix {
		return 0
	}
	return clampUnix(ts-taiUnix) + 1
}

// end gives the first unix second at which a record holds no more whose TAI64 label
// is ts and whose TTL is zero: tinydns answers it as long as ts >= now. Never zero,
// which would be for ever.
func end(ts uint64) int64 {
	if ts < taiUnix {
		return 1
	}
	return clampUnix(ts-taiUnix) + 1
}

// clampUnix keeps labels that lie beyond what an int64 counts; they are 2^63 seconds
// away.
func clampUnix(s uint64) int64 { return int64(min(s, math.MaxInt64-1)) }

// label is the TAI64 label for which start or end gives unix.
func label(unix int64) uint64 { return uint64(unix-1) + taiUnix }
