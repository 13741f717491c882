package plan

import (
	"fmt"
	"time"

	"github.com/zonecast/zonecast/mapper/assign"
)

// Settings of a plan.
type Settings struct {
	// Algorithm is the name of an assign.Algorithm.
	Algorithm string
	// Headroom is the part of each capacity that is left free, 0 to below 1: for demand that grows
	// until the next plan. It is used when a PoP is lost, and when there is no other room.
	Headroom float64
	// Hysteresis and HysteresisShare are what must be gained by a move: the larger one of a time,
	// and of a part of the round-trip time of now, 0 to 1. Zero is any gain.
	Hysteresis      time.Duration
	HysteresisShare float64
	// MaxChurn is the part of the demand that may move for a gain, 0 to 1; moves that are
	// necessary (a PoP closed, too full, new prefixes) are not counted. Those that gain most come first, and
	// the one that crosses the bound may. Zero is nobody, one no bound; who has no demand is under none but zero.
	MaxChurn float64
	// Pins are PoPs that people chose, None for who has none; nil: nobody has. Who is pinned to
	// a PoP that is closed is assigned like everybody else.
	Pins []int16
}

// DefaultSettings suit a map that is computed again and again.
func DefaultSettings() Settings {
	return Settings{Algorithm: "price", Headroom: 0.05, Hysteresis: 5 * time.Millisecond, HysteresisShare: 0.15, MaxChurn: 0.25}
}

// Check tells what is wrong with the settings.
func (s Settings) Check() error {
	if _, err := assign.Find(s.Algorithm); err != nil {
		return err
	}
	switch {
	case !(s.Headroom >= 0 && s.Headroom < 1):
		return fmt.Errorf("headroom is %v, expected 0 to below 1", s.Headroom)
	case s.Hysteresis < 0 || s.Hysteresis > assign.MaxRTT*time.Microsecond:
		return fmt.Errorf("hysteresis is %s, expected 0s to %s", s.Hysteresis, assign.MaxRTT*time.Microsecond)
	case !(s.HysteresisShare >= 0 && s.HysteresisShare <= 1):
		return fmt.Errorf("hysteresis-share is %v, expected 0 to 1", s.HysteresisShare)
	case !(s.MaxChurn >= 0 && s.MaxChurn <= 1):
		return fmt.Errorf("max-churn is %v, expected 0 to 1", s.MaxChurn)
	}
	return nil
}
