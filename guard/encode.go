package guard

import (
	"encoding/json"
	"fmt"
)

// Encode gives the bounds as JSON of one line, for other processes (docs/format/store.md).
func (b Bounds) Encode() ([]byte, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode bounds: %w", err)
	}
	return text, nil
}

// Decode is the inverse of Encode. Bounds without Window say that guards are off; others are
// valid.
func Decode(text []byte) (Bounds, error) {
	var b Bounds
	err := json.Unmarshal(text, &b)
	if err == nil && b.Window != 0 {
		err = b.Validate()
	}
	if err != nil {
		return Bounds{}, fmt.Errorf("decode bounds: %w", err)
	}
	return b, nil
}
