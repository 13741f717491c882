package script

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
)

// toStarlark makes a value of what JSON or TOML decodes to.
func toStarlark(v any) (starlark.Value, error) {
	switch v := v.(type) {
	case nil:
		return starlark.None, nil
	case bool:
		return starlark.Bool(v), nil
	case string:
		return starlark.String(v), nil
	case int:
		return starlark.MakeInt(v), nil
	case int64:
		return starlark.MakeInt64(v), nil
	case float64:
		if n := int64(v); float64(n) == v {
			return starlark.MakeInt64(n), nil // JSON knows no integers
		}
		return starlark.Float(v), nil
	case []any:
		all := make([]starlark.Value, len(v))
		for i := range v {
			var err error
			if all[i], err = toStarlark(v[i]); err != nil {
				return nil, err
			}
		}
		return starlark.NewList(all), nil
	case map[string]any:
		d := starlark.NewDict(len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			e, err := toStarlark(v[k])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			if err := d.SetKey(starlark.String(k), e); err != nil {
				return nil, err
			}
		}
		return d, nil
	}
	return nil, fmt.Errorf("is %T, expected texts, numbers, booleans, lists and tables", v)
}

func provenance(s fleet.Server) record.Provenance {
	return record.Provenance{Author: s.Author, Reason: s.Reason, Time: time.UnixMilli(s.Time).UTC()}
}
