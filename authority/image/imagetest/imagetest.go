package imagetest

import (
	"slices"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// Build writes an image of RRsets in any order and opens it; of two with one key the
// later holds.
func Build(path string, sets []record.Set, o image.Options) (*image.Image, error) {
	slices.SortStableFunc(sets, func(a, b record.Set) int { return a.Key.Compare(b.Key) })
	b, err := image.Create(path, o)
	if err != nil {
		return nil, err
	}
	defer b.Abort()
	for i := range sets {
		if i+1 < len(sets) && sets[i].Key == sets[i+1].Key {
			continue
		}
		if err := b.Add(&sets[i]); err != nil {
			return nil, err
		}
	}
	if err := b.Finish(); err != nil {
		return nil, err
	}
	return image.Open(path)
}
