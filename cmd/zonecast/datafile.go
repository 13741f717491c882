package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/internal/zoneload"
	"github.com/zonecast/zonecast/record"
)

// dataFiles are the files that build and serve make an image of.
type dataFiles struct {
	paths  []string
	format string      // see formats; never auto
	parts  []string    // what zone files include, as of the last load
	seen   []fileState // of paths and then parts, from before they were read
}

// formats that --format can say.
var formats = []string{"auto", "zone", "tinydns", "dnsrocks", "cdb", "image"}

// fileState is what tells that a file may have another content now.
type fileState struct {
	size  int64
	time  time.Time
	inode uint64 // 0: not known
}

// newDataFiles looks at what the files are.
func newDataFiles(paths []string, format string) (*dataFiles, error) {
	if !slices.Contains(formats, format) {
		return nil, fmt.Errorf("format is %q, expected %s", format, strings.Join(formats, ", "))
	}
	if format == "auto" {
		var err error
		if format, err = formatOf(paths[0]); err != nil {
			return nil, err
		}
	}
	if format != "zone" && len(paths) > 1 {
		return nil, hinted{fmt.Errorf("%d files of format %s, expected one", len(paths), format), "only zone files may be several"}
	}
	return &dataFiles{paths: paths, format: format}, nil
}

// formatOf tells what a file is by its beginning and its name.
func formatOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 32)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	switch base := filepath.Base(path); {
	case image.IsImage(head[:n]):
		return "image", nil
	case strings.HasSuffix(base, ".cdb"):
		return "cdb", nil
	case base == "data" || strings.HasSuffix(base, ".tinydns"):
		return "tinydns", nil
	}
	return "zone", nil
}

// stamp is what the files look like now.
func (d *dataFiles) stamp() []fileState {
	var all []fileState
	for _, path := range slices.Concat(d.paths, d.parts) {
		all = append(all, stateOf(path))
	}
	return all
}

func stateOf(path string) fileState {
	st, err := os.Stat(path)
	if err != nil {
		return fileState{size: -1}
	}
	return fileState{st.Size(), st.ModTime(), inodeOf(st)}
}

// include takes note of what zone files include now. A file that was not known before is
// looked at only now: when it may have changed since it was read, it is read again.
func (d *dataFiles) include(zones *zoneload.Zones, began time.Time) {
	known := map[string]fileState{}
	for i, path := range d.parts {
		if n := len(d.paths) + i; n < len(d.seen) {
			known[path] = d.seen[n]
		}
	}
	d.parts, d.seen = nil, d.seen[:min(len(d.paths), len(d.seen))]
	for _, z := range zones.Zones {
		for _, path := range z.Files[1:] {
			if slices.Contains(d.parts, path) {
				continue
			}
			state, old := known[path]
			if !old {
				if state = stateOf(path); !state.time.Before(began) {
					state = fileState{}
				}
			}
			d.parts, d.seen = append(d.parts, path), append(d.seen, state)
		}
	}
}

// Changed implements authority.Source.
func (d *dataFiles) Changed() bool { return !slices.Equal(d.seen, d.stamp()) }

// Load implements authority.Source.
func (d *dataFiles) Load(path string) (*image.Image, error) {
	d.seen = d.stamp()
	if d.format == "image" {
		return image.Open(d.paths[0])
	}
	if err := d.build(path, image.Options{NoSync: true}); err != nil {
		return nil, err
	}
	return image.Open(path)
}

// build writes the image of the files.
func (d *dataFiles) build(path string, o image.Options) error {
	switch d.format {
	case "zone":
		return d.buildZones(path, o)
	case "image":
		return hinted{fmt.Errorf("%s is an image already", d.paths[0]), "serve it as it is"}
	}
	return d.buildTiny(path, o)
}

// buildZones reads zone files, each one zone, and writes the image. Where two have one
// RRset - the NS of a zone that is here, and those in the zone above - the deeper zone
// knows better.
func (d *dataFiles) buildZones(path string, o image.Options) error {
	paths := slices.Clone(d.paths)
	depth := func(file string) int {
		origin, err := zonefile.Origin(file)
		if err != nil {
			return 0 // Load says what is wrong with it
		}
		return origin.Labels()
	}
	slices.SortStableFunc(paths, func(a, b string) int { return depth(b) - depth(a) })
	began := time.Now()
	zones, err := zoneload.Load(context.Background(), paths)
	if err != nil {
		return err
	}
	d.include(zones, began)
	b, err := image.Create(path, o)
	if err != nil {
		return err
	}
	defer b.Abort()
	var last record.Key
	for s := range zones.Sets {
		if s.Key == last {
			continue
		}
		last = s.Key
		if err := b.Add(s); err != nil {
			return err
		}
	}
	return b.Finish()
}

// buildTiny reads tinydns or dnsrocks data and writes the image.
func (d *dataFiles) buildTiny(path string, o image.Options) error {
	file := d.paths[0]
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var data *tinydns.Data
	switch d.format {
	case "tinydns":
		data, err = tinydns.ParseText(f, file, st.ModTime())
	case "dnsrocks":
		data, err = tinydns.ParseRocks(f, file, st.ModTime())
	default:
		data, err = tinydns.ReadCDB(f, st.Size())
	}
	if err != nil {
		return err
	}
	if len(data.Atlas.Uses) > 0 {
		if o.Atlas, err = data.Atlas.AppendBinary(nil, rand.Uint64()); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	o.AnyDepth = data.AnyDepth
	b, err := image.Create(path, o)
	if err != nil {
		return err
	}
	defer b.Abort()
	for i := range data.Sets {
		if err := b.Add(&data.Sets[i]); err != nil {
			return err
		}
	}
	return b.Finish()
}
