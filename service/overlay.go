package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Overlay gives what cfg, which was declared on cmd and loaded, is with options that landed
// while the program runs: the layer between variable and file. landed is a JSON object with
// an object for each section, with its options by name; "_" stands for "-" as well, and
// what begins with the same word may be an object of its own:
//
//	{"presenter": {"guard": {"few": 8, "zone": {"removed": "10% 25..1000"}}}}
//
// is presenter.guard-few and presenter.guard-zone-removed. Only options with the tag
// `live:"true"` may stand there, of cfg or of others that the program knows; a flag or a
// variable goes before, and kept names the options of which that is so. Options that are not
// there have the value of the file, or the default.
//
// cfg is not changed. All errors found are joined; Validate, if cfg has it, is asked about
// the whole.
func Overlay[T any](cmd *cobra.Command, cfg *T, landed []byte) (result T, kept []string, err error) {
	result = *cfg
	values, err := flattenJSON(landed)
	if err != nil {
		return result, nil, fmt.Errorf("landed options: %w", err)
	}
	byKey := map[string]*option{}
	for _, o := range known(cmd.Root()) {
		byKey[o.key()] = o
	}
	for _, o := range options(cmd) {
		byKey[o.key()] = o
	}
	var errs []error
	into := reflect.ValueOf(&result).Elem()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		o, ok := byKey[key]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("landed options: unknown key %s%s", key, hint(entry{key: key}, byKey)))
		case !o.live:
			errs = append(errs, fmt.Errorf("landed options: %s cannot change while the program runs: give it by flag, variable or file", key))
		default:
			field := reflect.New(o.field.Type()).Elem()
			if err := o.kind.fromJSON(values[key], field); err != nil {
				errs = append(errs, fmt.Errorf("landed options: %s = %s: %w", key, o.shown(clipJSON(values[key])), err))
			} else if o.root == any(cfg) {
				if o.from == fromFlag || o.from == fromEnv {
					kept = append(kept, fmt.Sprintf("%s (%s)", key, o.origin()))
				} else {
					into.FieldByIndex(o.index).Set(field)
				}
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return *cfg, nil, err
	}
	if v, ok := any(&result).(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return *cfg, nil, fmt.Errorf("landed options: %w", err)
		}
	}
	return result, kept, nil
}

// flattenJSON gives the values of a JSON object of sections by the options' keys.
func flattenJSON(landed []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(landed))
	d.UseNumber()
	var top map[string]any
	if err := d.Decode(&top); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	values := map[string]any{}
	var walk func(key, join string, in map[string]any) error
	walk = func(key, join string, in map[string]any) error {
		for name, v := range in {
			k := key + join + strings.ReplaceAll(name, "_", "-")
			if below, ok := v.(map[string]any); ok {
				next := "-"
				if key == "" {
					next = "."
				}
				if err := walk(k, next, below); err != nil {
					return err
				}
				continue
			}
			if _, twice := values[k]; twice {
				return fmt.Errorf("%s is there twice", k)
			}
			values[k] = v
		}
		return nil
	}
	return values, walk("", "", top)
}

// fromJSON sets v from a decoded value.
func (k kind) fromJSON(value any, v reflect.Value) error {
	if list, ok := value.([]any); ok && k.elem != nil {
		all := reflect.MakeSlice(v.Type(), 0, len(list))
		for i, e := range list {
			one := reflect.New(v.Type().Elem()).Elem()
			if err := k.elem.fromJSON(e, one); err != nil {
				return fmt.Errorf("element %d: %w", i+1, err)
			}
			all = reflect.Append(all, one)
		}
		v.Set(all)
		return nil
	}
	var text, found string
	switch value := value.(type) {
	case string:
		text, found = value, "string"
	case bool:
		text, found = fmt.Sprint(value), "bool"
	case json.Number:
		text, found = value.String(), "int"
		if strings.ContainsAny(text, ".eE") {
			found = "float"
		}
	default:
		return fmt.Errorf("expected %s", k.wantTOML())
	}
	if !slices.Contains(k.toml, found) {
		return fmt.Errorf("expected %s, found %s", k.wantTOML(), tomlWords(found))
	}
	return k.parse(v, text)
}

// clipJSON writes a value for a message.
func clipJSON(v any) string {
	const most = 80
	b, err := json.Marshal(v)
	if err != nil || len(b) > most {
		return "…"
	}
	return string(b)
}
