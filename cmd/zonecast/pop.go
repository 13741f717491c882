package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

func newPop() *cobra.Command {
	cmd := &cobra.Command{
		Use: "pop", Short: "points of presence: list, add, drain",
		Long: `pop tells and changes the points of presence (PoPs) that outside users are sent to. A change of state is a change of one small record of the dataset:
every host answers by it in under a second, and no map is touched.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newPopList(), newPopAdd(), newPopDrain(), newPopUndrain(), newPopCapacity(), newPopHealth(), newPopRemove())
	return cmd
}

func newPopList() *cobra.Command {
	var o keyStoreOptions
	cmd := &cobra.Command{
		Use: "list", Short: "show PoPs and their states", Args: exactArgs(),
		Long:    `list shows every PoP: where it is, its capacity, its state, and who said so, when and why.`,
		Example: `  zonecast pop list`,
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, _ []string) error {
		all, err := steering.Read(ctx, st)
		if err != nil {
			return err
		}
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
		}
		return writePops(cmd.OutOrStdout(), all)
	})
	return cmd
}

func writePops(w io.Writer, all []steering.PoP) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no PoPs: `zonecast pop add` makes one")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "POP\tSTATE\tCAPACITY\tLATITUDE\tLONGITUDE\tSINCE\tBY\tREASON")
	for _, p := range all {
		since, by, why := p.Set, p.Author, p.Reason
		if p.Down && !p.Drained {
			since, by, why = p.Found, p.FoundBy, p.FoundReason
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(p.Name), p.State, decimal(p.Capacity), decimal(p.Latitude), decimal(p.Longitude),
			time.UnixMilli(since).UTC().Format(time.RFC3339), plain(by), plain(why))
	}
	return t.Flush()
}

// decimal is a number without an exponent and without more digits than it has.
func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// popChange is a command that changes a PoP.
type popChange struct {
	use, short, long, example string
	args                      []string // behind the name
	declare                   func(cmd *cobra.Command)
	// change gives what is to be done, of the arguments behind the name.
	change func(cmd *cobra.Command, args []string, by steering.By, now int64) (steering.Change, error)
}

func (c popChange) command() *cobra.Command {
	var o keyStoreOptions
	var who changeOptions
	cmd := &cobra.Command{Use: c.use, Short: c.short, Long: c.long, Example: c.example, Args: exactArgs(append([]string{"POP"}, c.args...)...)}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, args []string) error {
		now, by := time.Now(), steering.By{Author: who.Author, Reason: who.Reason, From: processID()}
		change, err := c.change(cmd, args[1:], by, now.UnixMilli())
		if err != nil {
			return misused(cmd, err)
		}
		p, rev, err := steering.Do(ctx, st, args[0], change, by, now)
		if errors.Is(err, steering.ErrLast) {
			return hinted{err, "undrain another one before; a PoP that is down is passed over anyway"}
		}
		if err != nil {
			return err
		}
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				steering.PoP
				Revision store.Revision `json:"revision"`
			}{p, rev})
		}
		text := change.Text
		if !change.Gone {
			text += "; it is " + p.State
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "PoP %s: %s\n", plain(args[0]), plain(text))
		return err
	})
	who.declareAuthor(cmd)
	if c.declare != nil {
		c.declare(cmd)
	}
	return cmd
}

// existing has a change refused where there is no PoP.
func existing(change func(p *tree.PoP)) func(*tree.PoP, bool) error {
	return func(p *tree.PoP, there bool) error {
		if !there {
			return errors.New("there is no such PoP: `zonecast pop list` shows those there are")
		}
		change(p)
		return nil
	}
}

// said notes who says what people say of a PoP.
func said(p *tree.PoP, by steering.By, now int64) {
	p.Set, p.Author, p.Reason, p.From = now, by.Author, by.Reason, by.From
}

func newPopAdd() *cobra.Command {
	var latitude, longitude, capacity float64
	var addresses []string
	return popChange{
		use: "add POP", short: "make a PoP, or change what it is",
		long: `add makes a PoP, up, or changes where one is, its capacity and its addresses; its state stays. Latitude and longitude are degrees, north and east
positive. Capacity is in the unit of the demand that the mapper is told of.`,
		example: `  zonecast pop add esams --latitude 52.37 --longitude 4.9 --capacity 120000`,
		declare: func(cmd *cobra.Command) {
			cmd.Flags().Float64Var(&latitude, "latitude", 0, "degrees, north positive")
			cmd.Flags().Float64Var(&longitude, "longitude", 0, "degrees, east positive")
			cmd.Flags().Float64Var(&capacity, "capacity", 0, "demand that it serves at most; 0 none")
			cmd.Flags().StringSliceVar(&addresses, "address", nil, "an address of it; may be there several times")
		},
		change: func(cmd *cobra.Command, _ []string, by steering.By, now int64) (steering.Change, error) {
			if !cmd.Flags().Changed("latitude") || !cmd.Flags().Changed("longitude") || !cmd.Flags().Changed("capacity") {
				return steering.Change{}, errors.New("--latitude, --longitude and --capacity are needed: users are sent by them")
			}
			return steering.Change{
				Action: "pop add", People: true, Text: fmt.Sprintf("at %s, %s with capacity %s", decimal(latitude), decimal(longitude), decimal(capacity)),
				Apply: func(p *tree.PoP, _ bool) error {
					p.Latitude, p.Longitude, p.Capacity, p.Addresses = latitude, longitude, capacity, addresses
					said(p, by, now)
					return nil
				},
			}, nil
		},
	}.command()
}

func newPopDrain() *cobra.Command {
	return popChange{
		use: "drain POP", short: "send its users elsewhere",
		long: `drain sends the users of a PoP to the next one in the order of their location, until undrain. It is refused when no other PoP is up: answers would
be as before, and nobody would have noticed.`,
		example: `  zonecast pop drain esams --reason "power work"`,
		change: func(_ *cobra.Command, _ []string, by steering.By, now int64) (steering.Change, error) {
			return steering.Change{Action: "pop drain", People: true, Text: "drained", Apply: existing(func(p *tree.PoP) {
				p.Drained = true
				said(p, by, now)
			})}, nil
		},
	}.command()
}

func newPopUndrain() *cobra.Command {
	return popChange{
		use: "undrain POP", short: "send its users there again",
		long:    `undrain ends what drain began. A PoP that was found to be down stays so.`,
		example: `  zonecast pop undrain esams --reason "power is back"`,
		change: func(_ *cobra.Command, _ []string, by steering.By, now int64) (steering.Change, error) {
			return steering.Change{Action: "pop undrain", People: true, Text: "undrained", Apply: existing(func(p *tree.PoP) {
				p.Drained = false
				said(p, by, now)
			})}, nil
		},
	}.command()
}

func newPopCapacity() *cobra.Command {
	return popChange{
		use: "capacity POP CAPACITY", short: "say how much a PoP serves",
		long:    `capacity says how much demand a PoP serves at most; the mapper goes by it in its next map.`,
		example: `  zonecast pop capacity esams 90000 --reason "two racks are gone"`,
		args:    []string{"CAPACITY"},
		change: func(_ *cobra.Command, args []string, by steering.By, now int64) (steering.Change, error) {
			v, err := strconv.ParseFloat(args[0], 64)
			if err != nil || v < 0 {
				return steering.Change{}, fmt.Errorf("capacity is %q, expected a number from 0 on", args[0])
			}
			return steering.Change{Action: "pop capacity", People: true, Text: "capacity " + decimal(v), Apply: existing(func(p *tree.PoP) {
				p.Capacity = v
				said(p, by, now)
			})}, nil
		},
	}.command()
}

func newPopHealth() *cobra.Command {
	return popChange{
		use: "health POP up|down", short: "say what was found of a PoP's health",
		long: `health says whether a PoP serves, as somebody who looks at it has found; it is for programs. A PoP that is down is passed over, like one that is drained.
When none is up, all are taken for up: what is found of health takes no answer away.`,
		example: `  zonecast pop health esams down --author probes --reason "no answer from 3 of 3"`,
		args:    []string{"up|down"},
		change: func(_ *cobra.Command, args []string, by steering.By, now int64) (steering.Change, error) {
			health := strings.ToLower(args[0])
			if health != "up" && health != "down" {
				return steering.Change{}, fmt.Errorf("health is %q, expected up or down", args[0])
			}
			return steering.Change{Action: "pop health", Text: "found " + health, Apply: existing(func(p *tree.PoP) {
				p.Down, p.Found, p.FoundBy, p.FoundReason = health == "down", now, by.Author, by.Reason
			})}, nil
		},
	}.command()
}

func newPopRemove() *cobra.Command {
	return popChange{
		use: "remove POP", short: "take a PoP away",
		long: `remove takes a PoP away. A map that still sends users there has them sent as long as it is in an order and has records: of a PoP of which nothing is said
it is believed that it is up. So drain it first, and let maps and records follow.`,
		example: `  zonecast pop remove esams --reason "closed"`,
		change: func(*cobra.Command, []string, steering.By, int64) (steering.Change, error) {
			return steering.Change{Action: "pop remove", People: true, Gone: true, Text: "removed", Apply: existing(func(*tree.PoP) {})}, nil
		},
	}.command()
}
