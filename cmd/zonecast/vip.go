package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/operator"
)

func newVIP() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vip",
		Short: "service addresses: who announces them, and what a person wants of a host",
		Long: `vip shows the service addresses (VIPs) that hosts announce by BGP, and gives orders to them: drain a host, hold what is announced as it is, announce or not
whatever checks say. An order stands until it is released. Hosts decide by themselves otherwise: docs/vip.md.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		newVIPStatus(),
		newVIPOrder("drain HOST", "take a host out gracefully", `drain makes a host's routes the least preferred, and takes them back when that has lasted --announcer-drain-for and the floor lets it: enough others that
can answer have to stay. The host stays away until undrain.`, exactArgs("HOST"), func(args []string) (string, string) { return args[0], "drain" }),
		newVIPOrder("undrain HOST", "take a drain back", "undrain takes back the order to a host; it announces again when its checks are good.", exactArgs("HOST"), func(args []string) (string, string) { return args[0], "" }),
		newVIPOrder("hold [HOST]", "let robots change nothing", `hold leaves what is announced announced, and what is not away, whatever checks say, on a host or on all that have no order of their own. Only where
nobody listens at all a route goes.`, hostOrAll, func(args []string) (string, string) { return hostOf(args), "hold" }),
		newVIPOrder("force HOST up|down", "announce or not, whatever checks and floor say", `force up announces a host's routes whatever its checks say; force down takes them back whatever the floor says: of the last one, too.`,
			func(cmd *cobra.Command, args []string) error {
				if len(args) != 2 || args[1] != "up" && args[1] != "down" {
					return misused(cmd, fmt.Errorf("%s takes HOST and up or down, found %q", cmd.CommandPath(), args))
				}
				return nil
			}, func(args []string) (string, string) { return args[0], args[1] }),
		newVIPOrder("release [HOST]", "take an order back", "release takes back the order to a host, whatever it is, or the one to all.", hostOrAll, func(args []string) (string, string) { return hostOf(args), "" }),
	)
	return cmd
}

func hostOrAll(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return misused(cmd, fmt.Errorf("%s takes a host, or none for all, found %q", cmd.CommandPath(), args))
	}
	return nil
}

// hostOf is the host that is named; empty means all.
func hostOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// vipView is a VIP as JSON.
type vipView struct {
	VIP    string         `json:"vip"`
	Hosts  []vipHostView  `json:"hosts"`
	Orders []vipOrderView `json:"orders"`
}

type vipHostView struct {
	Host        string   `json:"host"`
	Addresses   []string `json:"addresses"`
	State       string   `json:"state"`
	Announced   bool     `json:"announced"`
	Since       int64    `json:"since_ms"`
	Health      string   `json:"health"`
	Why         string   `json:"why,omitempty"`
	Order       string   `json:"order,omitempty"`
	Sessions    []string `json:"sessions"`
	Leased      bool     `json:"leased"`
	Keep        int32    `json:"keep"`
	KeepPercent int32    `json:"keep_percent"`
}

type vipOrderView struct {
	Host   string `json:"host,omitempty"` // empty: all
	Order  string `json:"order"`
	Since  int64  `json:"since_ms"`
	Author string `json:"author"`
	Reason string `json:"reason"`
	From   string `json:"from,omitempty"`
}

func newVIPStatus() *cobra.Command {
	return clientCommand("status [VIP]", "show who announces what, and why", "status shows every host of every VIP, or of one: its state, since when, and why it is so.",
		func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return misused(cmd, fmt.Errorf("%s takes a VIP, or none for all, found %q", cmd.CommandPath(), args))
			}
			return nil
		}, func(ctx context.Context, s *session, args []string) error {
			vips, err := s.Control.Vips(ctx)
			if err != nil {
				return err
			}
			views := []vipView{}
			for _, v := range vips {
				if len(args) == 1 && args[0] != v.Vip {
					continue
				}
				view := vipView{v.Vip, []vipHostView{}, []vipOrderView{}}
				for _, h := range v.Hosts {
					view.Hosts = append(view.Hosts, vipHostView{
						h.Host, append([]string{}, h.Addresses...), h.State, h.Announced, h.SinceMs, h.Health, h.Why, h.Order, append([]string{}, h.Sessions...), h.Leased, h.Keep, h.KeepPercent,
					})
				}
				for _, o := range v.Orders {
					view.Orders = append(view.Orders, vipOrderView{o.Host, o.Order, o.SinceMs, o.Author, o.Reason, o.FromAddress})
				}
				views = append(views, view)
			}
			if len(args) == 1 && len(views) == 0 {
				return hinted{fmt.Errorf("no host has a VIP %q", args[0]), "`zonecast vip status` shows all of them"}
			}
			return s.print(views, func(w io.Writer) { s.writeVIPs(w, views) })
		})
}

func (s *session) writeVIPs(w io.Writer, views []vipView) {
	if len(views) == 0 {
		fmt.Fprintln(w, "no VIPs: `zonecast run announcer` announces them")
	}
	for _, v := range views {
		announced := 0
		for _, h := range v.Hosts {
			if h.Announced {
				announced++
			}
		}
		fmt.Fprintf(w, "vip %s: announced by %d of %s\n", plain(v.VIP), announced, count(len(v.Hosts), "host"))
		for _, o := range v.Orders {
			fmt.Fprintf(w, "  %s %s, since %s, by %s: %s\n", s.paint(yellow, "order:"), plain(cmp.Or(o.Host, "all hosts")+" "+o.Order), utc(o.Since), plain(o.Author), plain(o.Reason))
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  HOST\tSTATE\tSINCE\tCHECKS\tADDRESSES\tWHY")
		for _, h := range v.Hosts {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\n", plain(h.Host), plain(h.State), utc(h.Since), plain(h.Health), plain(strings.Join(h.Addresses, " ")), plain(h.Why))
		}
		t.Flush()
		for _, h := range v.Hosts {
			for _, session := range h.Sessions {
				if !strings.HasSuffix(session, " established") {
					fmt.Fprintf(w, "  %s %s: router %s\n", s.paint(yellow, "note:"), plain(h.Host), plain(session))
				}
			}
		}
	}
}

// newVIPOrder makes a command that gives an order; what says which, of which host.
func newVIPOrder(use, short, long string, args cobra.PositionalArgs, what func(args []string) (host, order string)) *cobra.Command {
	var change changeOptions
	var vip string
	cmd := clientCommand(use, short, long+"\nIt is of every VIP that the host has, or of that of --vip.",
		func(cmd *cobra.Command, a []string) error {
			if err := args(cmd, a); err != nil {
				return err
			}
			if change.Reason == "" {
				return misused(cmd, errors.New("--reason is missing: those who come after you will ask"))
			}
			return nil
		}, func(ctx context.Context, s *session, args []string) error {
			host, order := what(args)
			vips := []string{vip}
			if vip == "" {
				known, err := s.Control.Vips(ctx)
				if err != nil {
					return err
				}
				if vips = meant(known, host, order); len(vips) == 0 {
					return hinted{fmt.Errorf("no VIP has %s", cmp.Or(host, "a host that could be meant")), "`zonecast vip status` shows them; --vip names one"}
				}
			}
			for _, v := range vips {
				by, err := s.doer(ctx, change, operator.VIP(v, host, order, change.Reason))
				if err != nil {
					return err
				}
				d, err := s.Control.OrderVip(ctx, v, host, order, by)
				if err != nil {
					return err
				}
				err = s.print(vipDone{d.ID, d.Text}, func(w io.Writer) {
					for i, line := range d.Text {
						if i > 0 {
							line = s.paint(yellow, "note:") + " " + plain(line)
						} else {
							line = plain(line)
						}
						fmt.Fprintln(w, line)
					}
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	change.declareDoer(cmd)
	cmd.Flags().StringVar(&vip, "vip", "", "name of the VIP; empty is every one that the host has")
	return cmd
}

// vipDone is what an order did, as JSON.
type vipDone struct {
	ID   string   `json:"id"`
	Text []string `json:"text"`
}

// meant are the VIPs that an order to a host is of: those that it has, or has an order of.
func meant(known []*controlapi.VipState, host, order string) (vips []string) {
	for _, v := range known {
		has := slices.ContainsFunc(v.Hosts, func(h *controlapi.VipHost) bool { return host == "" || h.Host == host })
		ordered := slices.ContainsFunc(v.Orders, func(o *controlapi.VipOrder) bool { return o.Host == host })
		if order != "" && has || order == "" && ordered {
			vips = append(vips, v.Vip)
		}
	}
	return vips
}
