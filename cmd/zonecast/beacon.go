package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/beacon"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/rtt"
	"github.com/zonecast/zonecast/service"
)

// beaconStage measures users. It needs no store.
type beaconStage struct{ beacon.Config }

func (s *beaconStage) declare(cmd *cobra.Command) {
	s.Config = beacon.DefaultConfig()
	declare(cmd, "beacon", &s.Config)
}

func (s *beaconStage) add(n *node) error {
	b, err := beacon.New(s.Config, beacon.Deps{Log: n.log, Metrics: n.svc.Registerer()})
	if err != nil {
		return err
	}
	ln, err := listen("beacon-listen", s.Listen)
	if err != nil {
		return err
	}
	n.add("beacon", b.Run)
	n.svc.Add(service.PublicHTTP("beacon http", ln, b.Handler(), n.log))
	n.mux.Handle("GET /rtt", b.Times())
	n.warn("beacon", func() []string { return []string{b.Trouble()} })
	return nil
}

func newBeacon() *cobra.Command {
	cmd := &cobra.Command{
		Use: "beacon", Short: "round-trip times of users: import others' measurements, show what is known",
		Long: `beacon works on files of round-trip times, which ` + "`zonecast run beacon`" + ` writes and the mapper reads (docs/beacon.md).`,
	}
	cmd.AddCommand(newBeaconImport(), newBeaconShow())
	return cmd
}

// importOptions are those of beacon import.
type importOptions struct {
	Format  string   `option:"format" help:"csv (columns prefix, pop, milliseconds and more) or atlas (ping results of RIPE Atlas as JSON)"`
	Out     string   `option:"out" help:"directory that the round-trip times are written to, beside those of a beacon"`
	Name    string   `option:"name" help:"name of the file in it, before @TIME.rtt"`
	Targets []string `option:"target" help:"of atlas: which PoP was pinged, each POP=NAME or POP=ADDRESS as in dst_name or dst_addr"`
	JSON    bool     `option:"json" help:"print JSON and nothing else"`
}

// Validate implements the kit's check.
func (o *importOptions) Validate() error {
	var errs []error
	if o.Format != "csv" && o.Format != "atlas" {
		errs = append(errs, service.Invalid("format", "csv or atlas"))
	}
	if o.Out == "" {
		errs = append(errs, service.Invalid("out", "a directory"))
	}
	if o.Name == "" || strings.ContainsAny(o.Name, "/@") {
		errs = append(errs, service.Invalid("name", "a name without / and @"))
	}
	if (len(o.Targets) > 0) != (o.Format == "atlas") {
		errs = append(errs, service.Invalid("target", "with format atlas at least one POP=NAME, else none"))
	}
	if _, err := o.targets(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (o *importOptions) targets() (map[string]string, error) {
	all := map[string]string{}
	for _, text := range o.Targets {
		pop, target, ok := strings.Cut(text, "=")
		if !ok || target == "" || rtt.CheckPoP(pop) != nil {
			return nil, service.Invalid("target", "POP=NAME, such as esams=esams.example.net")
		}
		if all[target] != "" {
			return nil, service.Invalid("target", target+" only once")
		}
		all[target] = pop
	}
	return all, nil
}

func newBeaconImport() *cobra.Command {
	o := importOptions{Format: "csv", Name: "import"}
	cmd := &cobra.Command{
		Use: "import FILE...", Short: "import round-trip times that others measured", Args: atLeastArgs("FILE"),
		Long: `import reads round-trip times from files (- is the standard input) and writes them as one file of round-trip times.

CSV begins with a line that names its columns: prefix, pop, milliseconds, and if need be kind (client or resolver), client (who measured) and time
(Unix seconds or RFC 3339). RIPE Atlas gives ping results as an array of JSON objects, or one a line; --target says which PoP a name or address is.
Of addresses no more than a /24 or a /48 is kept. A file with an error is imported not at all.`,
		Example: "zonecast beacon import --format atlas --target esams=esams.example.net --target eqiad=192.0.2.1 --out /var/lib/zonecast/rtt ping.json",
	}
	declare(cmd, "", &o)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		targets, _ := o.targets() // Validate has looked
		now := time.Now()
		table := rtt.New(rtt.Limit{})
		var sum rtt.Imported
		for _, name := range args {
			done, err := importFile(table, name, cmd.InOrStdin(), o.Format, targets, now)
			if err != nil {
				return err
			}
			sum.Measurements += done.Measurements
			sum.Lost += done.Lost
			sum.Elsewhere += done.Elsewhere
		}
		path := ""
		if !table.Empty() {
			path = filepath.Join(o.Out, fmt.Sprintf("%s@%d%s", o.Name, now.Unix(), rtt.Suffix))
			if _, err := os.Lstat(path); err == nil {
				return hinted{fmt.Errorf("write %s: it is there", path), "another import was made in the same second: choose another --name"}
			}
			if err := atomicfile.WriteFunc(path, 0o644, func(w io.Writer) error {
				_, err := table.WriteTo(w)
				return err
			}); err != nil {
				return err
			}
		}
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				Measurements int    `json:"measurements"`
				Lost         int    `json:"lost"`
				Elsewhere    int    `json:"elsewhere"`
				Prefixes     int    `json:"prefixes"`
				File         string `json:"file,omitempty"`
			}{sum.Measurements, sum.Lost, sum.Elsewhere, table.Len(), path})
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d measurements of %d prefixes", sum.Measurements, table.Len())
		if o.Format == "atlas" {
			fmt.Fprintf(cmd.OutOrStdout(), ", %d without an answer, %d to other targets", sum.Lost, sum.Elsewhere)
		}
		if path == "" {
			fmt.Fprintln(cmd.OutOrStdout(), "; no file is written")
		} else {
			fmt.Fprintf(cmd.OutOrStdout(), "; written to %s\n", path)
		}
		return nil
	}
	return cmd
}

func importFile(table *rtt.Table, name string, stdin io.Reader, format string, targets map[string]string, now time.Time) (done rtt.Imported, err error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return done, err
		}
		defer f.Close()
		r = f
	}
	if format == "csv" {
		done, err = table.ImportCSV(r, now)
	} else {
		done, err = table.ImportAtlas(r, targets)
	}
	var at *rtt.LineError
	if errors.As(err, &at) {
		err = fmt.Errorf("%s:%d: %w", name, at.Line, at.Err)
	}
	return done, err
}

// showOptions are those of beacon show.
type showOptions struct {
	Want uint64 `option:"want" help:"measurements of a prefix and PoP that are wanted from the newest files, before older ones are taken; 0: all files"`
	JSON bool   `option:"json" help:"print JSON and nothing else"`
}

// maxShown bounds the files that are read at a time, and their memory.
const maxShown = 100_000

func newBeaconShow() *cobra.Command {
	o := showOptions{}
	cmd := &cobra.Command{
		Use: "show FILE|DIRECTORY...", Short: "show round-trip times: who, to which PoP, how long, by how many", Args: atLeastArgs("FILE|DIRECTORY"),
	}
	declare(cmd, "", &o)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		tables, err := readTimes(args)
		if err != nil {
			return err
		}
		all, err := rtt.Recent(tables, o.Want, rtt.Limit{})
		if err != nil {
			return err
		}
		return showTimes(cmd.OutOrStdout(), all, o.JSON)
	}
	return cmd
}

func readTimes(paths []string) (tables []*rtt.Table, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			found, err := rtt.ReadDir(path, rtt.Limit{}, time.Time{})
			if err != nil {
				return nil, err
			}
			tables = append(tables, found...)
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		found, err := rtt.ReadAll(f, rtt.Limit{}, maxShown)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		tables = append(tables, found...)
	}
	return tables, nil
}

// shownCell is a line of beacon show.
type shownCell struct {
	Kind    string  `json:"kind"`
	Prefix  string  `json:"prefix"`
	PoP     string  `json:"pop"`
	Median  float64 `json:"median_ms"`
	P95     float64 `json:"p95_ms"`
	Count   uint64  `json:"measurements"`
	Clients int     `json:"clients"`
	Demand  uint64  `json:"demand"`
	Queries uint64  `json:"queries"`
	Last    string  `json:"last"`
}

func showTimes(w io.Writer, all *rtt.Table, asJSON bool) error {
	enc := json.NewEncoder(w)
	if !asJSON {
		fmt.Fprintf(w, "%-8s %-22s %-12s %10s %10s %8s %8s %8s %8s  %s\n", "kind", "prefix", "pop", "median ms", "p95 ms", "count", "clients", "demand", "queries", "last")
	}
	milliseconds := func(d time.Duration) float64 {
		return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
	}
	for r := range all.All() {
		for _, c := range r.Cells {
			s := shownCell{
				r.Kind.String(), r.Prefix.String(), c.PoP, milliseconds(c.Times.Quantile(0.5)), milliseconds(c.Times.Quantile(0.95)),
				c.Times.Count(), c.Clients.Count(), r.Demand, r.Queries, c.Last.UTC().Format(time.RFC3339),
			}
			var err error
			if asJSON {
				err = enc.Encode(s)
			} else {
				_, err = fmt.Fprintf(w, "%-8s %-22s %-12s %10.2f %10.2f %8d %8d %8d %8d  %s\n", s.Kind, s.Prefix, s.PoP, s.Median, s.P95, s.Count, s.Clients, s.Demand, s.Queries, s.Last)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
