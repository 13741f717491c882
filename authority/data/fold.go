package data

import (
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// Fold writes the View as an image at path, with the seed and the options of the one
// it stands on but the given label and note. pause is called now and then; its error ends the
// fold.
func (v *View) Fold(path string, label image.Label, note []byte, pause func() error) error {
	b, err := image.Create(path, image.Options{
		Label: label, Seed: v.im.Seed(), Atlas: v.im.Atlas(), AnyDepth: v.im.AnyDepth(), Note: note, NoSync: true, Alone: true,
	})
	if err != nil {
		return err
	}
	defer b.Abort()
	changed := v.changes()
	var bodies []image.Body
	add := func(n image.Node) error {
		if n == nil || n.Len() == 0 {
			return nil // gone, or an empty non-terminal: those come by themselves
		}
		bodies = n.Bodies(bodies[:0])
		return b.AddNode(n.Name(), bodies)
	}
	count := 0
	for n := range v.im.Nodes() {
		if count++; count%4096 == 0 && pause != nil {
			if err := pause(); err != nil {
				return err
			}
		}
		name := record.Name(n.Name())
		order := 1
		for len(changed) > 0 {
			if order = changed[0].name.Compare(name); order > 0 {
				break
			}
			if err := add(changed[0].node); err != nil {
				return err
			}
			changed = changed[1:]
			if order == 0 {
				break
			}
		}
		if order != 0 {
			if err := add(n); err != nil {
				return err
			}
		}
	}
	if err := v.im.Damaged(); err != nil {
		return err
	}
	for _, c := range changed {
		if err := add(c.node); err != nil {
			return err
		}
	}
	return b.Finish()
}

type change struct {
	name record.Name
	node image.Node // nil: gone
}

// changes is what differs from the image, in canonical order.
func (v *View) changes() []change {
	out := make([]change, 0, v.over.Len())
	for name, n := range v.over.All() {
		out = append(out, change{record.Name(name), *n})
	}
	slices.SortFunc(out, func(a, b change) int { return a.name.Compare(b.name) })
	return out
}

// Rebase gives the View that answers as v does and stands on im, a Fold of an earlier
// View of which since are the names that changed from it to v, some perhaps twice.
func (v *View) Rebase(im *image.Image, since []record.Name) (*View, error) {
	if im.Seed() != v.im.Seed() {
		return nil, fmt.Errorf("go over to image %s: its seed is %016x, expected %016x", im.Path(), im.Seed(), v.im.Seed())
	}
	now := New(im)
	now.zones, now.sets = v.zones, v.sets
	names := now.over.Edit()
	for _, name := range since {
		h := v.hash.Name([]byte(name))
		p := v.over.Get(h, []byte(name))
		if p == nil {
			continue
		}
		if now.touched == nil {
			now.touched = new(filter)
		}
		old, ok := im.Get(h, []byte(name))
		if !ok {
			return nil, im.Damaged()
		}
		var was, is image.Traits
		if old != nil {
			was = old.Traits() & shape
		}
		if *p != nil {
			is = p.Traits() & shape
		}
		now.reshaped = now.reshaped || was != is
		now.addDepths(name, is)
		now.touched.add(h)
		names.Set(h, string(name), *p)
	}
	now.over = names.Map()
	return now, nil
}

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
