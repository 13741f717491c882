//go:build !race

package announcer

import "testing"

func withoutRace(*testing.T) {}
