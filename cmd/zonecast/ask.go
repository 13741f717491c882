package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/control"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// nameAndType reads NAME [TYPE].
func nameAndType(cmd *cobra.Command, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return misused(cmd, fmt.Errorf("%s takes NAME [TYPE], found %q", cmd.CommandPath(), args))
	}
	if _, err := record.ParseName(args[0]); err != nil {
		return usageError{err}
	}
	if len(args) == 2 {
		if _, err := record.ParseType(args[1]); err != nil {
			return usageError{err}
		}
	}
	return nil
}

func second(args []string) string {
	if len(args) < 2 {
		return ""
	}
	return args[1]
}

// recordView is an RRset as JSON.
type recordView struct {
	Owner    string   `json:"owner"`
	Type     string   `json:"type"`
	TTL      int64    `json:"ttl"`
	Location string   `json:"location,omitempty"`
	Rdata    []string `json:"rdata"`
}

func viewRecord(r *controlapi.RecordSet) recordView {
	return recordView{r.Owner, r.Type, r.TTL, r.Location, r.Rdata}
}

func newGet() *cobra.Command {
	client := ""
	cmd := clientCommand("get NAME [TYPE]", "show the records of a name as published", `get shows the records of a name as they are published, in zone-file form: those of all locations, or with --client those that a client at an address, or
in a prefix, is answered, by the maps and states of PoPs that are published. `+"`zonecast map explain`"+` tells why.`,
		nameAndType, func(ctx context.Context, s *session, args []string) error {
			r, err := s.Control.GetRecords(ctx, args[0], second(args))
			if err == nil && client != "" {
				err = s.keepClients(ctx, args[0], client, r)
			}
			if err != nil {
				return err
			}
			views := []recordView{}
			for _, x := range r.Records {
				views = append(views, viewRecord(x))
			}
			all, err := s.overrides(ctx)
			if err != nil {
				return err
			}
			owner, _ := record.ParseName(args[0]) // checked
			above := slices.DeleteFunc(all, func(o overrideView) bool { return o.Owner != owner.String() })
			v := map[string]any{"version": r.Version, "records": views, "overrides": above}
			err = s.print(v, func(w io.Writer) {
				for _, x := range views {
					at := ""
					if x.Location != "" {
						at = " ; at " + plain(x.Location)
					}
					for _, d := range x.Rdata {
						fmt.Fprintf(w, "%s\t%d\tIN\t%s\t%s%s\n", x.Owner, x.TTL, x.Type, d, at)
					}
				}
			})
			if !s.JSON {
				s.writeOverrides(s.err, above)
			}
			if err == nil && len(views) == 0 && client != "" {
				return hinted{fmt.Errorf("%s has no such records for %s in version %d", strings.Join(args, " "), client, r.Version), "`zonecast map explain " + client + " " + args[0] + "` tells how it is answered"}
			}
			if err == nil && len(views) == 0 {
				return hinted{fmt.Errorf("%s has no such records in version %d", strings.Join(args, " "), r.Version), "`zonecast why " + args[0] + "` shows who claims something there"}
			}
			return err
		})
	cmd.Example = `  zonecast get www.example.net
  zonecast get www.example.net A --client 192.0.2.1`
	cmd.Flags().StringVar(&client, "client", "", "address or prefix of a client: only what it is answered")
	return cmd
}

// keepClients keeps of the records of a name those that a client is answered.
func (s *session) keepClients(ctx context.Context, name, client string, r *controlapi.Records) error {
	resolver, _, _ := strings.Cut(client, "/")
	located := map[string]bool{} // types that differ by location
	for _, x := range r.Records {
		located[x.Type] = located[x.Type] || x.Location != ""
	}
	pops := map[string]string{}
	for _, typ := range slices.Sorted(maps.Keys(located)) {
		x, err := s.Control.Steer(ctx, client, resolver, name, typ)
		if err != nil {
			return err
		}
		if pops[typ] = x.Pop; !located[typ] {
			pops[typ] = ""
		}
	}
	r.Records = slices.DeleteFunc(r.Records, func(x *controlapi.RecordSet) bool { return x.Location != pops[x.Type] })
	return nil
}

// claimView is a claim and its verdict as JSON.
type claimView struct {
	recordView
	Verdict  string `json:"verdict"`
	Rule     string `json:"rule,omitempty"`
	Source   string `json:"source"`
	Place    string `json:"place,omitempty"`
	Author   string `json:"author,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Time     int64  `json:"time_ms,omitempty"`
	Revision string `json:"revision,omitempty"`
}

func viewClaim(c *controlapi.Claim) *claimView {
	if c == nil || c.Source == "" {
		return nil
	}
	return &claimView{recordView{c.Owner, c.Type, c.TTL, c.Location, c.Rdata}, c.Verdict, c.Rule, c.Source, c.Place, c.Author, c.Reason, c.TimeMs, c.Revision}
}

func newWhy() *cobra.Command {
	return clientCommand("why NAME [TYPE]", "show who claims a name, who wins, and why",
		"why shows every claim on a name: the winner, the losers, who made each, when, where from, and the rule that decided.",
		nameAndType, func(ctx context.Context, s *session, args []string) error {
			x, err := s.Control.Why(ctx, args[0], second(args))
			if err != nil {
				return err
			}
			views := []*claimView{}
			for _, c := range x.Claims {
				views = append(views, viewClaim(c))
			}
			v := map[string]any{"name": x.Owner, "version": x.Version, "claims": views, "notes": append([]string{}, x.Notes...)}
			return s.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "%s in version %d\n", x.Owner, x.Version)
				for _, c := range views {
					s.writeClaim(w, c)
				}
				for _, n := range x.Notes {
					fmt.Fprintf(w, "%s %s\n", s.paint(yellow, "note:"), plain(n))
				}
			})
		})
}

func (s *session) writeClaim(w io.Writer, c *claimView) {
	color := faint
	switch reconcile.Verdict(c.Verdict) {
	case reconcile.Wins, reconcile.Agrees, reconcile.United:
		color = green
	case reconcile.Loses:
		color = red
	case control.Waits:
		color = yellow
	}
	fmt.Fprintf(w, "\n%s  %s %d %s %s\n", s.paint(color, fmt.Sprintf("%-7s", c.Verdict)), c.Owner, c.TTL, c.Type, strings.Join(c.Rdata, " | "))
	from := c.Source
	if c.Place != "" {
		from += " at " + c.Place
	}
	if c.Author != "" {
		from += " by " + c.Author
	}
	if c.Time != 0 {
		from += " on " + time.UnixMilli(c.Time).UTC().Format("2006-01-02 15:04:05Z")
	}
	if c.Revision != "" {
		from += ", revision " + c.Revision
	}
	fmt.Fprintf(w, "         from %s\n", plain(from))
	if c.Reason != "" {
		fmt.Fprintf(w, "         reason: %s\n", plain(c.Reason))
	}
	if c.Rule != "" {
		fmt.Fprintf(w, "         because %s\n", plain(c.Rule))
	}
}

func newConflicts() *cobra.Command {
	return clientCommand("conflicts", "list claims that lost, and why", "conflicts lists every pair of claims that cannot both hold, with the winner and the rule that decided.",
		exactArgs(), func(ctx context.Context, s *session, _ []string) error {
			type view struct {
				Kind   string     `json:"kind"`
				Text   string     `json:"text"`
				Rule   string     `json:"rule"`
				Winner *claimView `json:"winner"`
				Loser  *claimView `json:"loser"`
			}
			all := []view{}
			for after := ""; ; {
				page, err := s.Control.Conflicts(ctx, after, 0)
				if err != nil {
					return err
				}
				for _, c := range page.Conflicts {
					all = append(all, view{c.Kind, c.Text, c.Rule, viewClaim(c.Winner), viewClaim(c.Loser)})
				}
				if after = page.NextAfter; after == "" {
					break
				}
			}
			return s.print(map[string]any{"conflicts": all}, func(w io.Writer) {
				for _, c := range all {
					fmt.Fprintf(w, "%s  %s\n", s.paint(yellow, c.Kind), plain(c.Text))
				}
				fmt.Fprintln(w, s.paint(faint, count(len(all), "conflict")))
			})
		})
}

// statusView is what `status --json` prints.
type statusView struct {
	Datasets  []datasetView  `json:"datasets"`
	Sources   []sourceView   `json:"sources"`
	Conflicts int64          `json:"conflicts"`
	Overrides []overrideView `json:"overrides"`
	Freezes   []freezeView   `json:"freezes"`
	Holds     []holdView     `json:"holds"`
	Pinned    *pinView       `json:"pinned,omitempty"`
	Services  []serviceView  `json:"services"`
}

type pinView struct {
	Version int64  `json:"version"`
	Set     int64  `json:"set_ms"`
	Author  string `json:"author"`
	Reason  string `json:"reason"`
	From    string `json:"from,omitempty"`
}

type datasetView struct {
	Name    string     `json:"name"`
	Version int64      `json:"version"`
	Content int64      `json:"content"`
	Digest  string     `json:"digest"`
	Records int64      `json:"records"`
	Time    int64      `json:"time_ms"`
	Hosts   []hostView `json:"hosts"`
}

type hostView struct {
	Name    string `json:"name"`
	DNS     string `json:"dns"`
	Version int64  `json:"version"`
	Digest  string `json:"digest"`
	Age     int64  `json:"age_ms"`
	Refused string `json:"refused,omitempty"`
	// Direct is what operators put on top of the dataset there, in words.
	Direct []string `json:"direct,omitempty"`
}

type sourceView struct {
	Source   string `json:"source"`
	Where    string `json:"where"`
	Revision string `json:"revision,omitempty"`
	Records  int64  `json:"records"`
	Time     int64  `json:"time_ms"`
	Error    string `json:"error,omitempty"`
	Since    int64  `json:"since_ms,omitempty"`
	Failing  int64  `json:"failing,omitempty"`
}

type serviceView struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	API  string `json:"api,omitempty"`
	HTTP string `json:"http,omitempty"`
}

func viewStatus(st *controlapi.Status) statusView {
	v := statusView{Datasets: []datasetView{}, Sources: []sourceView{}, Services: []serviceView{}, Conflicts: st.Conflicts}
	for _, d := range st.Datasets {
		dv := datasetView{Name: d.Name, Version: d.Version, Content: d.Content, Digest: d.Digest, Records: d.Records, Time: d.TimeMs, Hosts: []hostView{}}
		for _, h := range d.Hosts {
			dv.Hosts = append(dv.Hosts, hostView{h.Name, h.DNS, h.Version, h.Digest, h.AgeMs, h.Refused, h.Direct})
		}
		v.Datasets = append(v.Datasets, dv)
	}
	for _, x := range st.Sources {
		v.Sources = append(v.Sources, sourceView{x.Source, x.Where, x.Revision, x.Records, x.TimeMs, x.Error, x.SinceMs, x.Failing})
	}
	for _, x := range st.Services {
		v.Services = append(v.Services, serviceView{x.Name, x.ID, x.API, x.HTTP})
	}
	return v
}

func newStatus() *cobra.Command {
	return clientCommand("status", "show versions, hosts and sources", "status shows each dataset's version, what every host answers and how old it is, and the state of every source.",
		exactArgs(), func(ctx context.Context, s *session, _ []string) error {
			st, err := s.Control.Status(ctx)
			if err != nil {
				return err
			}
			v := viewStatus(st)
			if v.Overrides, err = s.overrides(ctx); err != nil {
				return err
			}
			if v.Freezes, err = s.freezes(ctx); err != nil {
				return err
			}
			if v.Holds, err = s.holds(ctx); err != nil {
				return err
			}
			pin, err := s.Control.Pinned(ctx)
			if err != nil {
				return err
			}
			if pin.Version > 0 {
				v.Pinned = &pinView{pin.Version, pin.SetMs, pin.Author, pin.Reason, pin.FromAddress}
			}
			return s.print(v, func(w io.Writer) {
				s.writeStatus(w, v)
				if p := v.Pinned; p != nil {
					fmt.Fprintf(w, "%s at the content of version %d since %s by %s (%s): changes wait for `zonecast release`\n",
						s.paint(red, "PINNED"), p.Version, utc(p.Set), plain(p.Author), plain(p.Reason))
				}
				s.writeFreezes(w, v.Freezes)
				s.writeHolds(w, v.Holds)
				s.writeOverrides(w, v.Overrides)
			})
		})
}

func (s *session) writeStatus(w io.Writer, v statusView) {
	for _, d := range v.Datasets {
		records := "RRsets not read yet"
		if d.Records >= 0 {
			records = count(int(d.Records), "RRset")
		}
		fmt.Fprintf(w, "dataset %s  version %d (content %d)  %s  digest %.16s\n", d.Name, d.Version, d.Content, records, d.Digest)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  HOST\tDNS\tVERSION\tAGE\t")
		for _, h := range d.Hosts {
			age := "unknown"
			if h.Age >= 0 {
				age = (time.Duration(h.Age) * time.Millisecond).String()
			}
			state := ""
			switch {
			case h.Refused != "":
				state = "refused: " + plain(h.Refused)
			case h.Version == d.Version && h.Digest != d.Digest:
				state = "DIGEST DIFFERS: " + plain(h.Digest)
			case h.Version < d.Content:
				state = "behind"
			}
			fmt.Fprintf(t, "  %s\t%s\t%d\t%s\t%s\n", plain(h.Name), plain(h.DNS), h.Version, age, state)
		}
		t.Flush()
		for _, h := range d.Hosts {
			for _, x := range h.Direct {
				fmt.Fprintf(w, "  %s %s\n", s.paint(yellow, plain(h.Name)+":"), plain(x))
			}
		}
		if len(d.Hosts) == 0 {
			fmt.Fprintln(w, s.paint(red, "  no host is live"))
		}
	}
	records, broken := int64(0), 0
	for _, x := range v.Sources {
		records += x.Records
		if x.Error != "" {
			broken++
			served := " (the last good state is served)"
			if strings.HasPrefix(x.Source, record.KindRule+"/") {
				served = "" // or what a rule left out of the newest: its text says which
			}
			fmt.Fprintf(w, "%s %s: %s%s\n", s.paint(red, "source"), x.Source, plain(x.Error), served)
		}
	}
	fmt.Fprintf(w, "%s, %d in error; %s\n", count(len(v.Sources), "source"), broken, count(int(v.Conflicts), "conflict"))
}
