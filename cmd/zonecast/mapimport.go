package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/geo"
	geoformats "github.com/zonecast/zonecast/geo/formats"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/mapclaims"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/record"
)

// unknownPoPs that --unknown-pops of `map import` can say.
var unknownPoPs = []string{"refuse", "add", "keep"}

// mapFormats that --format of `map import` can say.
var mapFormats = []string{"csv", "gdnsd", "knot", "tinydns", "dnsrocks"}

// mapSource is what `map import` reads, and how.
type mapSource struct {
	Format    string
	MMDB      []string
	Map       string
	Resources string
	Resource  string
	Keys      []string
	For       []string
	Unknown   string // what becomes of PoPs that are not known
	TTL       uint32
	Embedded  bool
}

func newMapImport() *cobra.Command {
	var change changeOptions
	var o mapSource
	var dry, remove bool
	cmd := clientCommand("import NAME FILE", "take a map that you have as a source",
		`import takes a map as the source map/NAME; importing it again replaces what it claimed before. Formats:

  csv       prefix,location and, if PoPs have an order, pops; see `+"`zonecast map export`"+`
  gdnsd     geo-maps and resources of gdnsd's plugin geoip, or its whole configuration; --mmdb is the database that it names
  knot      the file of Knot DNS's module geoip; --mmdb and --geodb-key as there
  tinydns   % lines of tinydns-data
  dnsrocks  M, 8 and % lines of dnsrocks

The PoPs that a map of csv or gdnsd names are those that `+"`zonecast pop list`"+` shows, or the map is refused: a name that was mistyped would send clients where nobody can
drain. --unknown-pops add makes those that are missing, with capacity 0, and keep takes them as they are, for locations that are no PoPs.

--for says for which names the map holds (*.example.net: all below it); with gdnsd's --resource they get its addresses, one RRset at each PoP, and with tinydns
and dnsrocks those that the file has for them by location. --dry-run tells what would change and changes nothing. The change is guarded like any other.`,
		func(cmd *cobra.Command, args []string) error {
			switch want := []string{"NAME", "FILE"}; {
			case remove && dry:
				return misused(cmd, errors.New("--remove and --dry-run do not go together"))
			case remove:
				return exactArgs(want[:1]...)(cmd, args)
			case o.Format != "" && !slices.Contains(mapFormats, o.Format):
				return misused(cmd, fmt.Errorf("--format is %q, expected %s", o.Format, strings.Join(mapFormats, ", ")))
			case o.Format == "" && len(args) == 2 && strings.ToLower(filepath.Ext(args[1])) != ".csv":
				return misused(cmd, fmt.Errorf("--format is missing: %s may be any of %s", args[1], strings.Join(mapFormats, ", ")))
			case !slices.Contains(unknownPoPs, o.Unknown):
				return misused(cmd, fmt.Errorf("--unknown-pops is %q, expected %s", o.Unknown, strings.Join(unknownPoPs, ", ")))
			case o.Resource != "" && len(o.For) == 0:
				return misused(cmd, errors.New("--resource without --for: whose addresses are they to be?"))
			default:
				return exactArgs(want...)(cmd, args)
			}
		}, func(_ context.Context, s *session, args []string) error {
			began := time.Now()
			name, file := args[0], ""
			var content []byte
			var read *geoformats.Import
			if !remove {
				file = args[1]
				var err error
				if read, err = o.read(file); err != nil {
					return err
				}
				read.Map.Name = name
				if content, err = mapclaims.Encode(&read.Map, read.Sets); err != nil {
					return err
				}
			}
			// A large database takes longer to read than a call may take.
			ctx, cancel := context.WithTimeout(s.whole, s.Timeout)
			defer cancel()
			var pops, missing []string
			if read != nil && o.Unknown != "keep" {
				var err error
				if pops, missing, err = s.heldPoPs(ctx, read, o.Unknown == "add"); err != nil {
					return err
				}
			}
			if dry {
				return s.planMap(ctx, read, missing)
			}
			if read != nil {
				for _, n := range read.Notes {
					fmt.Fprintln(s.err, s.paint(yellow, "note:"), plain(n.String()))
				}
			}
			by, err := s.doer(ctx, change, operator.ImportMap(string(mapclaims.Source(name)), content, missing, change.Reason))
			if err != nil {
				return err
			}
			ch, err := s.Control.ImportMap(ctx, name, filepath.Base(file), content, by, pops, missing)
			if err != nil {
				return err
			}
			return s.finish(ctx, change, "claims", "map "+name, began, ch, nil)
		})
	f := cmd.Flags()
	f.StringVar(&o.Format, "format", "", "format of the file: "+strings.Join(mapFormats, ", ")+"; by default csv if its name ends so")
	f.StringSliceVar(&o.MMDB, "mmdb", nil, "database of places (MaxMind DB); two when IPv4 and IPv6 are apart")
	f.StringVar(&o.Map, "map", "", "which map of the file; needed when it has several")
	f.StringVar(&o.Resources, "resources", "", "file of gdnsd's resources; by default those in FILE")
	f.StringVar(&o.Resource, "resource", "", "the resource of gdnsd whose addresses the names of --for get")
	f.StringSliceVar(&o.Keys, "geodb-key", nil, "Knot's geodb-key: a path in the database, in order (default country/iso_code)")
	f.StringSliceVar(&o.For, "for", nil, "a name that the map holds for; *.NAME: all below it")
	f.StringVar(&o.Unknown, "unknown-pops", "refuse", "what becomes of PoPs of the map that are not known: "+strings.Join(unknownPoPs, ", "))
	f.Uint32Var(&o.TTL, "ttl", 60, "TTL of addresses, in seconds, where the format has none of its own")
	f.BoolVar(&o.Embedded, "embedded-ipv4", false, "put clients of 6to4, NAT64 and the like where their IPv4 address is, as gdnsd does: more than three times as many prefixes")
	f.BoolVar(&dry, "dry-run", false, "tell what would change, and change nothing")
	f.BoolVar(&remove, "remove", false, "take the map away, with the RRsets of its names")
	change.declareSigned(cmd)
	return cmd
}

// read reads the file and what it needs.
func (o *mapSource) read(file string) (*geoformats.Import, error) {
	if o.Format == "" {
		o.Format = "csv" // by its name
	}
	uses, err := o.uses()
	if err != nil {
		return nil, err
	}
	var names []record.Name // *.NAME is a wildcard of its own
	for k, u := range uses {
		if n := u.Name; !u.Below {
			names = append(names, n)
		} else if n, err = u.Name.Child("*"); err != nil {
			return nil, usageError{fmt.Errorf("--for %s: %w", o.For[k], err)}
		} else {
			names = append(names, n)
		}
	}
	var dbs []*mmdb.DB
	for _, name := range o.MMDB {
		db, err := mmdb.Open(name)
		if err != nil {
			return nil, err
		}
		dbs = append(dbs, db)
	}
	var i *geoformats.Import
	switch o.Format {
	case "gdnsd":
		g := geoformats.GDNSD{
			FS: os.DirFS(filepath.Dir(file)), File: filepath.Base(file), Map: o.Map, Resource: o.Resource, Databases: dbs,
			EmbeddedIPv4: o.Embedded, Names: names, TTL: o.TTL,
		}
		if o.Resources != "" {
			rel, err := filepath.Rel(filepath.Dir(file), o.Resources)
			if err != nil || !filepath.IsLocal(rel) {
				return nil, usageError{fmt.Errorf("--resources is %s, expected a file in the directory of %s or below it", o.Resources, file)}
			}
			g.Resources = filepath.ToSlash(rel)
		}
		i, err = g.Read()
	default:
		i, err = o.stream(file, dbs, names)
	}
	if err != nil {
		if len(dbs) == 0 && strings.Contains(err.Error(), "none is given") {
			return nil, hinted{err, "--mmdb FILE is the database"}
		}
		return nil, err
	}
	if len(uses) > 0 {
		said := i.Map.Uses
		i.Map.Uses = nil
		for _, u := range uses {
			for _, u.Kind = range []geo.Kind{geo.ByResolver, geo.BySubnet} {
				// gdnsd's ignore_ecs, tinydns, and dnsrocks without 8 know one kind alone.
				if len(said) == 0 || slices.ContainsFunc(said, func(s geo.Use) bool { return s.Kind == u.Kind }) {
					i.Map.Uses = append(i.Map.Uses, u)
				}
			}
		}
	}
	if len(i.Map.Entries) == 0 && len(i.Sets) == 0 { // Knot's weights have no prefixes
		return nil, fmt.Errorf("%s has no prefixes, expected a map", file)
	}
	return i, nil
}

// heldPoPs holds the PoPs that a map names against those known. It gives all of them, and
// those that are missing, of which any is an error unless they are to be made.
func (s *session) heldPoPs(ctx context.Context, read *geoformats.Import, add bool) (pops, missing []string, err error) {
	if len(read.PoPs) == 0 {
		return nil, nil, nil
	}
	known, err := s.Control.Pops(ctx)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, p := range read.PoPs {
		if pops = append(pops, p.Name); slices.Contains(known, p.Name) {
			continue
		}
		missing = append(missing, p.Name)
		if len(errs) < maxUnknownTold {
			errs = append(errs, fmt.Errorf("%s: %q is no PoP, expected %s", p.Place, p.Name, oneOf(known)))
		}
	}
	if len(missing) == 0 || add {
		return pops, missing, nil
	}
	if more := len(missing) - len(errs); more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", more))
	}
	return nil, nil, hinted{errors.Join(errs...), "`zonecast pop add` makes a PoP, --unknown-pops add makes all that are missing, --unknown-pops keep is for locations that are no PoPs"}
}

// maxUnknownTold is how many PoPs that are not known an error names.
const maxUnknownTold = 8

// oneOf is some names for a message.
func oneOf(names []string) string {
	if len(names) == 0 {
		return "one that there is (there are none)"
	}
	text := "one of "
	for i, n := range names {
		if i == maxUnknownTold {
			return text + fmt.Sprintf(" and %d more", len(names)-i)
		}
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%q", n)
	}
	return text
}

// uses are those that --for says, without a kind.
func (o *mapSource) uses() ([]geo.Use, error) {
	var all []geo.Use
	for _, text := range o.For {
		u := geo.Use{}
		text, u.Below = strings.CutPrefix(text, "*.")
		var err error
		if u.Name, err = dnswire.ParseName(text, record.Root); err != nil {
			return nil, usageError{fmt.Errorf("--for: %w", err)}
		}
		all = append(all, u)
	}
	return all, nil
}

// stream reads the formats of one file.
func (o *mapSource) stream(file string, dbs []*mmdb.DB, names []record.Name) (*geoformats.Import, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch o.Format {
	case "csv":
		return geoformats.ReadCSV(f, file)
	case "knot":
		return geoformats.Knot{Reader: f, File: file, Keys: o.Keys, Databases: dbs, TTL: o.TTL}.Read()
	}
	parse := tinydns.ParseText
	if o.Format == "dnsrocks" {
		parse = tinydns.ParseRocks
	}
	d, err := parse(f, file, st.ModTime())
	if err != nil {
		return nil, err
	}
	return o.ofAtlas(file, d, names)
}

// ofAtlas takes one map of tinydns or dnsrocks data, and the RRsets of names by location.
func (o *mapSource) ofAtlas(file string, d *tinydns.Data, names []record.Name) (*geoformats.Import, error) {
	var there []string
	for n := range d.Atlas.Maps {
		there = append(there, n)
	}
	slices.Sort(there)
	quoted := func() string {
		var all []string
		for _, n := range there {
			all = append(all, fmt.Sprintf("%q", n))
		}
		return strings.Join(all, ", ")
	}
	which := o.Map
	switch {
	case len(there) == 0:
		return nil, fmt.Errorf("%s has no locations (%% lines), expected a map", file)
	case which == "" && len(there) == 1:
		which = there[0]
	case which == "":
		return nil, hinted{fmt.Errorf("%s has the maps %s, expected that one is chosen", file, quoted()), "--map NAME chooses one"}
	case !slices.Contains(there, which):
		return nil, fmt.Errorf("%s has no map %q, expected one of %s", file, which, quoted())
	}
	i := &geoformats.Import{Map: geo.Map{Entries: d.Atlas.Maps[which]}}
	for _, u := range d.Atlas.Uses {
		if u.Map == which {
			u.Map = ""
			i.Map.Uses = append(i.Map.Uses, u)
		}
	}
	for _, n := range d.Notes {
		i.Notes = append(i.Notes, geoformats.Note{Place: file, Text: n.Text})
		if n.File != "" {
			i.Notes[len(i.Notes)-1].Place = fmt.Sprintf("%s:%d", n.File, n.Line)
		}
	}
	everybody := map[record.Key]record.Set{}
	for _, s := range d.Sets {
		if s.Location == "" && slices.Contains(names, s.Owner) {
			everybody[s.Key] = s
		}
	}
	for _, s := range d.Sets {
		if s.Location == "" || !slices.Contains(names, s.Owner) {
			continue
		}
		all := everybody[record.Key{Owner: s.Owner, Type: s.Type}]
		s, more := o.together(s, all)
		if more {
			i.Notes = append(i.Notes, geoformats.Note{Place: file, Text: fmt.Sprintf("%s: a record has a TTL or times of its own; it has those of its RRset here, and holds at all times", s.Key)})
		}
		i.Sets = append(i.Sets, s)
	}
	return i, nil
}

// maxTinydns is how many A records tinydns answers (tdlookup.c).
const maxTinydns = 8

// together gives what clients of a location get: its records, and those for everybody, which
// hold beside them in tinydns and dnsrocks, and not in a dataset. own: a record had a TTL or
// times of its own.
func (o *mapSource) together(s, everybody record.Set) (out record.Set, own bool) {
	ttl := s.TTL
	if len(everybody.Data) > 0 {
		ttl = min(ttl, everybody.TTL)
	}
	weights := map[record.Rdata]uint32{}
	for _, part := range []record.Set{s, everybody} {
		for k, d := range part.Data {
			t := record.Terms{TTL: part.TTL, Weight: 1}
			if part.Terms != nil {
				t = part.Terms[k]
			}
			own = own || t.TTL != ttl || t.From != 0 || t.Until != 0
			if o.Format == "dnsrocks" {
				weights[d] = uint32(min(uint64(weights[d])+uint64(t.Weight), math.MaxUint32))
			} else {
				weights[d] = 1 // one that is there twice is there once
			}
		}
	}
	var data []record.Rdata
	var terms []record.Terms
	for d, w := range weights {
		data, terms = append(data, d), append(terms, record.Terms{TTL: ttl, Weight: w})
	}
	out = record.NewSet(s.Owner, s.Type, s.Location, data, terms)
	if out.Choose = max(s.Choose, everybody.Choose); o.Format == "tinydns" && s.Type == record.TypeA && len(data) > maxTinydns {
		out.Choose = maxTinydns
	}
	return out, own
}

// mapPlan is what an import would change.
type mapPlan struct {
	Name      string   `json:"name"`
	Prefixes  int      `json:"prefixes"`
	Locations int      `json:"locations"`
	Orders    int      `json:"orders"`
	Uses      int      `json:"uses"`
	Names     int      `json:"rrsets_of_names"`
	Before    int      `json:"prefixes_before"` // 0: there is no such map yet
	Created   int      `json:"created"`         // RRsets of the map
	Replaced  int      `json:"replaced"`
	Removed   int      `json:"removed"`
	Moved4    float64  `json:"moved_ipv4"` // part of the addresses, 0 to 1
	Moved6    float64  `json:"moved_ipv6"`
	Notes     []string `json:"notes"`
	NewPoPs   []string `json:"new_pops"` // that would be made
}

// planMap tells what would change.
func (s *session) planMap(ctx context.Context, read *geoformats.Import, missing []string) error {
	before, err := s.fetchMap(ctx, read.Map.Name)
	if err != nil && api.Code(err) != api.NotFound {
		return err
	}
	if before == nil {
		before = &geo.Map{Name: read.Map.Name}
	}
	p := mapPlan{
		Name: read.Map.Name, Prefixes: len(read.Map.Entries), Orders: len(read.Map.Orders), Uses: len(read.Map.Uses), Names: len(read.Sets),
		Before: len(before.Entries), Notes: []string{}, NewPoPs: append([]string{}, missing...),
	}
	places := map[record.Location]bool{}
	for _, e := range read.Map.Entries {
		places[e.Location] = true
	}
	p.Locations = len(places)
	for _, n := range read.Notes {
		p.Notes = append(p.Notes, n.String())
	}
	if p.Moved4, p.Moved6, err = ortc.Moved(before.Entries, read.Map.Entries); err != nil {
		return err
	}
	old := map[record.Key]record.RRset{}
	rrsets, err := before.RRsets(geo.Zone)
	if err != nil {
		return err
	}
	for _, r := range rrsets {
		old[r.Key] = r
	}
	if rrsets, err = read.Map.RRsets(geo.Zone); err != nil {
		return err
	}
	for _, r := range rrsets {
		was, ok := old[r.Key]
		delete(old, r.Key)
		switch {
		case !ok:
			p.Created++
		case !was.Equal(r):
			p.Replaced++
		}
	}
	p.Removed = len(old)
	return s.print(p, func(w io.Writer) {
		fmt.Fprintf(w, "map %s: %d prefixes at %d locations, %d of them with an order, for %d uses; %d RRsets of names\n", p.Name, p.Prefixes, p.Locations, p.Orders, p.Uses, p.Names)
		if p.Before == 0 {
			fmt.Fprintln(w, "there is no such map yet")
		} else {
			fmt.Fprintf(w, "before: %d prefixes; %.2f %% of IPv4 and %.2f %% of IPv6 (2000::/3) move\n", p.Before, 100*p.Moved4, 100*p.Moved6)
		}
		fmt.Fprintf(w, "RRsets of the map: %d created, %d replaced, %d removed\n", p.Created, p.Replaced, p.Removed)
		if len(p.NewPoPs) > 0 {
			fmt.Fprintf(w, "PoPs that would be made: %s\n", plain(strings.Join(p.NewPoPs, ", ")))
		}
		for _, n := range p.Notes {
			fmt.Fprintln(w, s.paint(yellow, "note:"), plain(n))
		}
		fmt.Fprintln(w, "nothing was changed (--dry-run)")
	})
}

// fetchMap reads a published map, from the start again when its version changed in the
// middle.
func (s *session) fetchMap(ctx context.Context, name string) (*geo.Map, error) {
	const tries = 5
	for try := 1; ; try++ {
		var all []record.RRset
		after := ""
		for {
			page, err := s.Control.MapContent(ctx, name, after)
			if err != nil {
				if after != "" && try < tries && api.Code(err) == api.NotFound {
					break
				}
				return nil, err
			}
			rrsets, err := mapclaims.Unpack(page.Content)
			if err != nil {
				return nil, fmt.Errorf("map %s: %w", name, err)
			}
			all = append(all, rrsets...)
			if after = page.NextAfter; after == "" {
				maps, _, err := geo.ParseMaps(all)
				if err != nil {
					return nil, err
				}
				if len(maps) != 1 {
					return nil, fmt.Errorf("map %s: found %d maps", name, len(maps))
				}
				return &maps[0], nil
			}
		}
	}
}

func newMapExport() *cobra.Command {
	var out, format string
	cmd := clientCommand("export NAME", "write a published map as CSV",
		"export writes a map of the published dataset, in the order of its prefixes: as CSV that `zonecast map import` reads, or as JSON, one prefix a line.",
		func(cmd *cobra.Command, args []string) error {
			if format != "csv" && format != "json" {
				return misused(cmd, fmt.Errorf("--format is %q, expected csv or json", format))
			}
			return exactArgs("NAME")(cmd, args)
		}, func(ctx context.Context, s *session, args []string) error {
			m, err := s.fetchMap(ctx, args[0])
			if err != nil {
				return err
			}
			if format == "csv" && !s.JSON {
				return writeTo(out, s.out, func(w io.Writer) error { return geoformats.WriteCSV(w, m) })
			}
			return writeTo(out, s.out, func(w io.Writer) error {
				enc := json.NewEncoder(w)
				enc.SetEscapeHTML(false)
				for _, e := range m.Entries {
					if err := enc.Encode(entryView{e.Prefix.String(), string(e.Location), m.Orders[e.Location]}); err != nil {
						return err
					}
				}
				return nil
			})
		})
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write (default: standard output)")
	cmd.Flags().StringVar(&format, "format", "csv", "csv or json")
	return cmd
}

// entryView is a prefix of a map as JSON.
type entryView struct {
	Prefix   string            `json:"prefix"`
	Location string            `json:"location"`
	PoPs     []record.Location `json:"pops,omitempty"`
}

// publishedMap is a published map as JSON.
type publishedMap struct {
	Name     string   `json:"name"`
	Prefixes int64    `json:"prefixes"`
	Orders   int64    `json:"orders"`
	Blocks   int64    `json:"blocks"`
	Uses     []string `json:"uses"`
	UseCount int64    `json:"use_count"`
	Where    string   `json:"where,omitempty"`
	Time     int64    `json:"time_ms,omitempty"`
}

func newMapList() *cobra.Command {
	return clientCommand("list", "show the maps that are published", "list shows every map of the published dataset: how many prefixes and orders it has, for which names it holds, and where it comes from.",
		exactArgs(), func(ctx context.Context, s *session, _ []string) error {
			all, err := s.Control.Maps(ctx)
			if err != nil {
				return err
			}
			views := []publishedMap{}
			for _, m := range all {
				views = append(views, publishedMap{m.Name, m.Prefixes, m.Orders, m.Blocks, append([]string{}, m.Uses...), m.UseCount, m.Where, m.TimeMs})
			}
			return s.print(views, func(w io.Writer) {
				if len(views) == 0 {
					fmt.Fprintln(w, "no maps")
					return
				}
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				defer t.Flush()
				fmt.Fprintln(t, "MAP\tPREFIXES\tORDERS\tRRSETS\tFROM\tFOR")
				for _, v := range views {
					uses := v.Uses[:min(3, len(v.Uses))]
					text := strings.Join(uses, ", ")
					if more := int(v.UseCount) - len(uses); more > 0 {
						text += fmt.Sprintf(" and %d more", more)
					}
					fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\n", plain(v.Name), v.Prefixes, v.Orders, v.Blocks, plain(v.Where), plain(text))
				}
			})
		})
}
