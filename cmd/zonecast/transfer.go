package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/record"
)

// maxImport bounds a file of `import`, in octets; larger ones belong into a watched
// directory (`--zones`).
const maxImport = 16 << 20

func newImport() *cobra.Command {
	var change changeOptions
	var remove bool
	cmd := clientCommand("import FILE…", "take zone files as sources of records",
		`import takes the content of zone files as the sources zone/import/<file name>. Importing a file again replaces what it claimed before.
The file's name says the zone's ("example.net" or "example.net.zone") unless $ORIGIN in it does. An error in a file names its line, and then nothing of that
file is taken.`,
		func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("%s takes at least one file", cmd.CommandPath())}
			}
			return nil
		}, func(ctx context.Context, s *session, args []string) error {
			var failed error
			for _, file := range args {
				failed = errors.Join(failed, s.importFile(ctx, file, remove, change))
			}
			return failed
		})
	cmd.Flags().BoolVar(&remove, "remove", false, "take away what files of these names claimed before")
	change.declareSigned(cmd)
	return cmd
}

func (s *session) importFile(ctx context.Context, file string, remove bool, change changeOptions) error {
	began := time.Now()
	var content []byte
	if !remove {
		var err error
		if content, err = readBounded(file, maxImport); err != nil {
			return err
		}
		if len(content) == 0 {
			return hinted{fmt.Errorf("%s is empty, expected a zone file", file), "--remove takes away what it claimed before"}
		}
	}
	by, err := s.doer(ctx, change, operator.Import(filepath.Base(file), content, change.Reason))
	if err != nil {
		return err
	}
	ch, err := s.Control.ImportZone(ctx, filepath.Base(file), content, by)
	if err != nil {
		return explain(err)
	}
	return s.finish(ctx, change, "claims", "import "+file, began, ch, nil)
}

func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if int64(len(b)) > most {
		return nil, hinted{fmt.Errorf("%s has more than %d octets", file, most), "put large zone files into a directory and let `zonecast run update --zones DIR` follow it"}
	}
	return b, nil
}

func newExport() *cobra.Command {
	var out string
	cmd := clientCommand("export zones|json", "write the published dataset as zone files or JSON",
		`export writes the published dataset: "zones" as master files, one a zone, that any server loads; "json" as one RRset a line.
The order is canonical and freshness records are left out, so that equal data gives equal bytes. SOA serials are those that the sources claim.`,
		func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != "zones" && args[0] != "json" {
				return usageError{fmt.Errorf("%s takes zones or json, %q given", cmd.CommandPath(), args)}
			}
			return nil
		}, func(ctx context.Context, s *session, args []string) error {
			all, err := s.exported(ctx)
			if err != nil {
				return err
			}
			if args[0] == "json" || s.JSON {
				return writeTo(out, s.out, func(w io.Writer) error { return exportJSON(w, all) })
			}
			return s.exportZones(out, all)
		})
	cmd.Flags().StringVarP(&out, "out", "o", "", "file for json, directory for zones (default: standard output)")
	return cmd
}

// exported fetches the whole dataset, from the start again when its version
// changed in the middle.
func (s *session) exported(ctx context.Context) ([]*controlapi.RecordSet, error) {
	const tries = 5
	bar := s.progress("export")
	defer bar.done()
	for try := 1; ; try++ {
		var all []*controlapi.RecordSet
		var err error
		for after := ""; ; {
			var page *controlapi.ExportPage
			if page, err = s.Control.ExportRecords(ctx, s.Dataset, after, 10000); err != nil {
				break
			}
			all = append(all, page.Records...)
			bar.set(len(all), 0)
			if after = page.NextAfter; after == "" {
				return all, nil
			}
		}
		if try == tries {
			return nil, err
		}
	}
}

func writeTo(file string, stdout io.Writer, fill func(io.Writer) error) error {
	if file == "" {
		b := bufio.NewWriter(stdout)
		return errors.Join(fill(b), b.Flush())
	}
	return atomicfile.WriteFunc(file, 0o644, fill)
}

func exportJSON(w io.Writer, all []*controlapi.RecordSet) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range all {
		if err := enc.Encode(viewRecord(r)); err != nil {
			return err
		}
	}
	return nil
}

// exportZones writes one file a zone into dir, or all zones to standard output.
func (s *session) exportZones(dir string, all []*controlapi.RecordSet) error {
	zones, apexes, err := byZone(all)
	if err != nil {
		return err
	}
	if dir == "" {
		return writeTo("", s.out, func(w io.Writer) error {
			for _, apex := range apexes {
				if err := dnswire.WriteZone(w, apex, zones[apex]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, apex := range apexes {
		name := strings.TrimSuffix(apex.String(), ".")
		if apex == record.Root {
			name = "root"
		}
		if strings.ContainsAny(name, "/\\") {
			return fmt.Errorf("zone %s cannot be the name of a file; export json has it", apex)
		}
		err := atomicfile.WriteFunc(filepath.Join(dir, name), 0o644, func(w io.Writer) error { return dnswire.WriteZone(w, apex, zones[apex]) })
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(s.err, "%s written to %s\n", count(len(apexes), "zone"), dir)
	return nil
}

// byZone sorts RRsets into their zones; apexes keep the canonical order in which
// the SOA records come.
func byZone(all []*controlapi.RecordSet) (map[record.Name][]record.RRset, []record.Name, error) {
	zones := map[record.Name][]record.RRset{}
	var apexes []record.Name
	var parsed []record.RRset
	for _, r := range all {
		x, err := parseRecordSet(r)
		if err != nil {
			return nil, nil, err
		}
		parsed = append(parsed, x)
		if x.Type == record.TypeSOA && zones[x.Owner] == nil {
			zones[x.Owner] = []record.RRset{}
			apexes = append(apexes, x.Owner)
		}
	}
	for _, x := range parsed {
		apex := x.Owner
		for apex != "" && zones[apex] == nil {
			apex = apex.Parent()
		}
		if apex == "" {
			return nil, nil, fmt.Errorf("%s lies in no zone of the export", x.Key)
		}
		zones[apex] = append(zones[apex], x)
	}
	return zones, apexes, nil
}

func parseRecordSet(r *controlapi.RecordSet) (record.RRset, error) {
	owner, err := record.ParseName(r.Owner)
	if err != nil {
		return record.RRset{}, err
	}
	t, err := record.ParseType(r.Type)
	if err != nil {
		return record.RRset{}, err
	}
	data := make([]record.Rdata, len(r.Rdata))
	for i, text := range r.Rdata {
		if data[i], err = dnswire.ParseRdata(t, text, record.Root); err != nil {
			return record.RRset{}, fmt.Errorf("%s %s: %w", owner, t, err)
		}
	}
	x := record.NewRRset(owner, t, uint32(r.TTL), data...)
	x.Location = record.Location(r.Location)
	return x, nil
}
