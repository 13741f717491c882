package table

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxPoPsFile bounds the file of PoPs, in octets.
const maxPoPsFile = 16 << 20

// popJSON is a PoP in a file: a pointer tells that a value was there.
type popJSON struct {
	Name      *string  `json:"name"`
	Latitude  *float64 `json:"latitude"`
	Longitude *float64 `json:"longitude"`
	Capacity  *float64 `json:"capacity"`
	Drained   bool     `json:"drained"`
	State     string   `json:"state"` // as `zonecast pop list --json` says it
}

// ReadPoPs reads an array of PoPs in JSON: name, latitude, longitude, capacity, drained. What
// else is said of them, as by `zonecast pop list --json`, is left out; the file is for errors.
func ReadPoPs(r io.Reader, file string) ([]PoP, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPoPsFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(text) > maxPoPsFile {
		return nil, fmt.Errorf("%s has more than %d octets, expected a list of PoPs", file, maxPoPsFile)
	}
	var list []popJSON
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("%s:%d: %w, expected [{\"name\": \"esams\", \"latitude\": 52.3, \"longitude\": 4.9, \"capacity\": 100, \"drained\": false}, …]", file, lineOf(text, err, d), err)
	}
	if d.More() {
		return nil, fmt.Errorf("%s:%d: more behind the list of PoPs", file, line(text, d.InputOffset()))
	}
	pops := make([]PoP, len(list))
	for i, p := range list {
		missing := func(what string) error {
			return fmt.Errorf("%s: PoP %d (%s) has no %s", file, i+1, deref(p.Name), what)
		}
		switch {
		case p.Name == nil:
			return nil, missing("name")
		case p.Capacity == nil:
			return nil, missing("capacity")
		case (p.Latitude == nil) != (p.Longitude == nil):
			return nil, missing("latitude or no longitude, and expected both or neither")
		}
		switch p.State {
		case "", "up", "drained", "down":
		default:
			return nil, fmt.Errorf("%s: PoP %d (%s) has state %.40q, expected up, drained or down", file, i+1, *p.Name, p.State)
		}
		pops[i] = PoP{Name: *p.Name, Capacity: *p.Capacity, Drained: p.Drained || p.State == "drained" || p.State == "down"}
		if p.Latitude != nil {
			pops[i].Latitude, pops[i].Longitude, pops[i].Located = *p.Latitude, *p.Longitude, true
		}
	}
	if err := CheckPoPs(pops); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return pops, nil
}

func deref(s *string) string {
	if s == nil {
		return "without a name"
	}
	return *s
}

// lineOf is the line of a decoder's error.
func lineOf(text []byte, err error, d *json.Decoder) int {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return line(text, syntax.Offset)
	case errors.As(err, &kind):
		return line(text, kind.Offset)
	}
	return line(text, d.InputOffset())
}

func line(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(max(offset, 0), int64(len(text)))], []byte{'\n'})
}
