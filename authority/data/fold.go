package data

import (
	"cmp"
	"fmt"
	"slices"
	"unsafe"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// Fold writes the View as an image at path, with the seed and the options of the one
// it stands on but the given label and note. pause is image.Options.Pause.
func (v *View) Fold(path string, label image.Label, note []byte, pause func() error) error {
	names, _, _, _ := v.im.Counts()
	atlas := v.im.Atlas()
	if v.guide != nil {
		atlas = nil
	}
	b, err := image.Create(path, image.Options{
		Names: names + v.Changed(), Label: label, Seed: v.im.Seed(), Atlas: atlas, Own: v.guide != nil, AnyDepth: v.im.AnyDepth(), Note: note, NoSync: true, Pause: pause,
	})
	if err != nil {
		return err
	}
	defer b.Abort()
	other, added := v.changes()
	for n := range v.im.Nodes() {
		for len(added) > 0 && record.Name(added[0].Name()).Compare(record.Name(n.Name())) < 0 {
			if err := b.Keep(added[0]); err != nil {
				return err
			}
			added = added[1:]
		}
		if len(other) > 0 && &other[0].was[0] == &n[0] {
			n = other[0].is
			other = other[1:]
		}
		if n == nil {
			continue
		}
		if err := b.Keep(n); err != nil {
			return err
		}
	}
	if err := v.im.Damaged(); err != nil {
		return err
	}
	for _, n := range added {
		if err := b.Keep(n); err != nil {
			return err
		}
	}
	return b.Finish()
}

// change is a node of the image that is another one in the View; nil: it is gone.
type change struct{ was, is image.Node }

// changes is what differs from the image, in the order of the image and in canonical
// order, which is the same.
func (v *View) changes() (other []change, added []image.Node) {
	other = make([]change, 0, v.Changed())
	for h, e := range v.over.all {
		was, ok := v.im.Get(h, e.name())
		switch {
		case !ok: // damaged, as the one who asked for the changes will find
		case was != nil && e.gone():
			other = append(other, change{was: was})
		case was != nil:
			other = append(other, change{was, e.node()})
		case !e.gone():
			added = append(added, e.node())
		}
	}
	slices.SortFunc(other, func(a, b change) int {
		return cmp.Compare(uintptr(unsafe.Pointer(&a.was[0])), uintptr(unsafe.Pointer(&b.was[0])))
	})
	slices.SortFunc(added, func(a, b image.Node) int { return record.Name(a.Name()).Compare(record.Name(b.Name())) })
	return other, added
}

// Rebase gives the View that answers as v does and stands on im, a Fold of an earlier
// View of which since are the names that changed from it to v, some perhaps twice.
func (v *View) Rebase(im *image.Image, since []record.Name) (*View, error) {
	if im.Seed() != v.im.Seed() {
		return nil, fmt.Errorf("go over to image %s: its seed is %016x, expected %016x", im.Path(), im.Seed(), v.im.Seed())
	}
	now := New(im)
	now.zones, now.sets, now.guide = v.zones, v.sets, v.guide
	if len(since) == 0 {
		return now, nil
	}
	now.touched = new(filter)
	damaged := false
	now.over = now.over.edit(func(over *layer) {
		for _, name := range since {
			h := v.hash.Name([]byte(name))
			e := v.over.get(h, []byte(name))
			if e == nil || over.get(h, []byte(name)) != nil {
				continue
			}
			old, ok := im.Get(h, []byte(name))
			if !ok {
				damaged = true
				return
			}
			var was, is image.Traits
			if old != nil {
				was = old.Traits() & shape
			}
			if !e.gone() {
				is = e.node().Traits() & shape
			}
			now.reshaped = now.reshaped || was != is
			now.addDepths(name, is)
			now.touched.add(h)
			over.put(h, e.node(), e.gone())
		}
	})
	if damaged {
		return nil, im.Damaged()
	}
	return now, nil
}
