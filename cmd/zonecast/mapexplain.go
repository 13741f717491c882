package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/controlapi"
)

// steeringView is how a client is answered, as JSON.
type steeringView struct {
	Version    int64         `json:"version"`
	Owner      string        `json:"owner"`
	Type       string        `json:"type"`
	Maps       []steeredView `json:"maps"`
	PoP        string        `json:"pop"` // empty: the records for everybody
	LastResort bool          `json:"last_resort"`
	TTL        int64         `json:"ttl"`
	Rdata      []string      `json:"rdata"`
	Scope      int32         `json:"scope"` // bits that decided, of the client; 0: everybody
	Notes      []string      `json:"notes"`
}

// steeredView is what one map says.
type steeredView struct {
	Map            string        `json:"map"`
	Kind           string        `json:"kind"`
	Prefix         string        `json:"prefix"`
	Location       string        `json:"location"`
	PrivateNetwork bool          `json:"private_network,omitempty"`
	Order          []orderedView `json:"order"`
}

type orderedView struct {
	PoP     string `json:"pop"`
	State   string `json:"state"`
	Records bool   `json:"records"`
}

func viewSteering(x *controlapi.Steering) steeringView {
	v := steeringView{
		Version: x.Version, Owner: x.Owner, Type: x.Type, Maps: []steeredView{}, PoP: x.Pop, LastResort: x.LastResort, TTL: x.TTL,
		Rdata: append([]string{}, x.Rdata...), Scope: x.Scope, Notes: append([]string{}, x.Notes...),
	}
	for _, m := range x.Maps {
		s := steeredView{m.MapName, m.Kind, m.Prefix, m.Location, m.PrivateNetwork, []orderedView{}}
		for _, p := range m.Order {
			s.Order = append(s.Order, orderedView{p.Name, p.State, p.Records})
		}
		v.Maps = append(v.Maps, s)
	}
	return v
}

func newMapExplain() *cobra.Command {
	resolver := ""
	cmd := clientCommand("explain ADDRESS NAME [TYPE]", "tell how a client is answered, and why",
		`explain tells how a client at ADDRESS, or in a prefix, is answered that asks for NAME: which prefix of which map it is in, its location, the PoPs in
order and their states, and the records. ADDRESS counts as the client subnet (ECS) and, unless --resolver says another, as the resolver, too.`,
		func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) > 3 {
				return misused(cmd, fmt.Errorf("%s takes ADDRESS NAME [TYPE], found %q", cmd.CommandPath(), args))
			}
			return nil
		}, func(ctx context.Context, s *session, args []string) error {
			from := resolver
			if from == "" {
				from, _, _ = strings.Cut(args[0], "/")
			}
			kind := "A"
			if len(args) == 3 {
				kind = args[2]
			}
			x, err := s.Control.Steer(ctx, args[0], from, args[1], kind)
			if err != nil {
				return err
			}
			v := viewSteering(x)
			return s.print(v, func(w io.Writer) { s.writeSteering(w, v) })
		})
	cmd.Example = `  zonecast map explain 192.0.2.1 www.example.net
  zonecast map explain 2001:db8::/48 www.example.net AAAA --resolver 198.51.100.1`
	cmd.Flags().StringVar(&resolver, "resolver", "", "address of the resolver; by default ADDRESS")
	return cmd
}

func (s *session) writeSteering(w io.Writer, v steeringView) {
	fmt.Fprintf(w, "%s %s in version %d\n", plain(v.Owner), v.Type, v.Version)
	if len(v.Maps) == 0 {
		fmt.Fprintln(w, "  no map holds for the name")
	}
	counts := true // of the maps the first with a location
	for _, m := range v.Maps {
		fmt.Fprintf(w, "  map %s, %s: ", plain(m.Map), m.Kind)
		switch {
		case m.PrivateNetwork:
			fmt.Fprintln(w, "a private network, of which it says nothing")
		case m.Prefix == "":
			fmt.Fprintln(w, "no prefix of it has the client")
		case m.Location == "":
			fmt.Fprintf(w, "%s is nowhere\n", m.Prefix)
		default:
			color := faint
			if counts {
				color, counts = green, false
			}
			fmt.Fprintf(w, "%s is at %s\n", m.Prefix, s.paint(color, plain(m.Location)))
			for _, p := range m.Order {
				note := ""
				if !p.Records {
					note = ", has no records here"
				}
				mark := "  "
				if p.PoP == v.PoP && color == green {
					mark = "=>"
				}
				fmt.Fprintf(w, "    %s %s %s%s\n", mark, plain(p.PoP), p.State, note)
			}
		}
	}
	for _, d := range v.Rdata {
		fmt.Fprintf(w, "%s\t%d\tIN\t%s\t%s\n", plain(v.Owner), v.TTL, v.Type, plain(d))
	}
	if v.Scope > 0 {
		fmt.Fprintf(w, "scope: the first %d bits of the client's address decided\n", v.Scope)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(w, "%s %s\n", s.paint(yellow, "note:"), plain(n))
	}
}
