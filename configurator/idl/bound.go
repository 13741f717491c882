package idl

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// bound is what an annotation asks of values.
type bound struct {
	Annotation
	check func(v Value) error // v is of the type
}

func allBounds(all []bound, v Value) error {
	for i := range all {
		if err := all[i].check(v); err != nil {
			return fmt.Errorf("%w (%s)", err, all[i].Pos)
		}
	}
	return nil
}

// boundsOf reads the annotations that bound values of the type t:
//
//	min = "1", max = "65535"       of numbers
//	pattern = "[a-z]+"             of strings: RE2, the whole string
//	length = "1..64", "..64", "4"  of strings in characters, of binary in octets, of
//	                               lists, sets and maps in elements
func boundsOf(all Annotations, t *Type) ([]bound, error) {
	t = t.True()
	var bounds []bound
	for _, a := range all {
		var check func(Value) error
		var err error
		switch a.Key {
		case "min", "max":
			check, err = rangeBound(a, t)
		case "pattern":
			check, err = patternBound(a, t)
		case "length":
			check, err = lengthBound(a, t)
		default:
			continue
		}
		if err != nil {
			return nil, a.errorf("annotation %s: %v", a.Key, err)
		}
		bounds = append(bounds, bound{a, check})
	}
	return bounds, nil
}

func rangeBound(a Annotation, t *Type) (func(Value) error, error) {
	expected := "at least"
	if a.Key == "max" {
		expected = "at most"
	}
	switch t.Kind {
	case I8, I16, I32, I64:
		limit, err := strconv.ParseInt(a.Value, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("expected a whole number, found %q", clip(a.Value))
		}
		return func(v Value) error {
			if n := v.(int64); a.Key == "min" && n < limit || a.Key == "max" && n > limit {
				return fmt.Errorf("%d is out of range, expected %s %d", n, expected, limit)
			}
			return nil
		}, nil
	case Double:
		limit, err := strconv.ParseFloat(a.Value, 64)
		if err != nil {
			return nil, fmt.Errorf("expected a number, found %q", clip(a.Value))
		}
		return func(v Value) error {
			if n := v.(float64); a.Key == "min" && n < limit || a.Key == "max" && n > limit {
				return fmt.Errorf("%v is out of range, expected %s %v", n, expected, limit)
			}
			return nil
		}, nil
	}
	return nil, fmt.Errorf("is for numbers, and the type is %s%s", t, atElement(t))
}

func patternBound(a Annotation, t *Type) (func(Value) error, error) {
	if t.Kind != String {
		return nil, fmt.Errorf("is for strings, and the type is %s%s", t, atElement(t))
	}
	re, err := regexp.Compile("^(?:" + a.Value + ")$")
	if err != nil {
		return nil, err
	}
	return func(v Value) error {
		if s := v.(string); !re.MatchString(s) {
			return fmt.Errorf("%q does not match, expected the pattern %s", clip(s), a.Value)
		}
		return nil
	}, nil
}

func atElement(t *Type) string {
	if t.Elem != nil {
		return ": write it behind the element's type, inside < >"
	}
	return ""
}

func lengthBound(a Annotation, t *Type) (func(Value) error, error) {
	unit := map[Kind]string{String: "characters", Binary: "octets", List: "elements", Set: "elements", Map: "entries"}[t.Kind]
	if unit == "" {
		return nil, fmt.Errorf("is for strings, binary, lists, sets and maps, and the type is %s", t)
	}
	low, high, ok := strings.Cut(a.Value, "..")
	if !ok {
		high = low
	}
	least, most := 0, MaxFile
	for _, x := range []struct {
		text string
		to   *int
	}{{low, &least}, {high, &most}} {
		if x.text == "" && ok {
			continue
		}
		n, err := strconv.ParseUint(x.text, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("expected a length such as 4, 1..64, 1.. or ..64, found %q", clip(a.Value))
		}
		*x.to = int(n)
	}
	return func(v Value) error {
		n := 0
		switch v := v.(type) {
		case string:
			n = utf8.RuneCountInString(v)
		case []byte:
			n = len(v)
		case []Value:
			n = len(v)
		case Entries:
			n = len(v)
		}
		if n < least || n > most {
			return fmt.Errorf("%s has %d %s, expected %s", Describe(v), n, unit, a.Value)
		}
		return nil
	}, nil
}
