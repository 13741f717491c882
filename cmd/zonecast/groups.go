package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/store"
)

// groupView is a group as `groups` prints it.
type groupView struct {
	Name string `json:"name"`
	tree.Group
	Live []string `json:"live"` // its live hosts
}

func newGroups() *cobra.Command {
	var o keyStoreOptions
	cmd := &cobra.Command{
		Use: "groups", Short: "which datasets hosts carry", Args: exactArgs(),
		Long: `groups tells which hosts carry which datasets. A host of several groups carries what all of them say, in the order of the groups' names; one that is
of none carries what its options say (--agent-dataset, --agent-also). A group is set by command, or by a configuration groups/NAME of the type
zonecast.Group, and changed by its owner alone.`,
		Example: `  zonecast groups`,
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, _ []string) error {
		all, err := readGroups(ctx, st)
		if err != nil {
			return err
		}
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
		}
		if len(all) == 0 {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "no groups: each host carries what its options say")
			return err
		}
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "GROUP\tDATASETS\tHOSTS\tLIVE\tFROM")
		for _, g := range all {
			from := "command"
			if g.Config != "" {
				from = "configuration"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", plain(g.Name), plain(strings.Join(g.Datasets, " ")), plain(strings.Join(g.Hosts, " ")), plain(strings.Join(g.Live, " ")), from)
		}
		return t.Flush()
	})
	cmd.AddCommand(newGroupsSet(), newGroupsRemove())
	return cmd
}

// readGroups reads the groups and who of the live hosts is of them.
func readGroups(ctx context.Context, st store.Store) ([]groupView, error) {
	nodes, _, err := st.List(ctx, tree.Groups)
	if err != nil {
		return nil, err
	}
	live, _, err := st.List(ctx, tree.Hosts)
	if err != nil {
		return nil, err
	}
	all := []groupView{}
	for _, n := range nodes {
		g := groupView{Name: strings.TrimPrefix(n.Path, tree.Groups), Live: []string{}}
		if err := tree.Decode(n, &g.Group); err != nil {
			return nil, err
		}
		for _, h := range live {
			var host tree.Host
			if err := tree.Decode(h, &host); err != nil {
				return nil, err
			}
			if (trial.Ring{Hosts: g.Hosts}).Has(host.Name, host.Labels) {
				g.Live = append(g.Live, host.Name)
			}
		}
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b groupView) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func declareGroupWait(cmd *cobra.Command, wait *bool) {
	cmd.Flags().BoolVar(wait, "wait", false, "return when the live hosts of the group answer what they are to carry, and nothing else (--timeout)")
}

// groupLook is how often it is looked whether hosts follow: as often as they say what they answer.
const groupLook = time.Second

// awaitGroups waits until the live hosts that selectors name carry what groups say.
func awaitGroups(ctx context.Context, w io.Writer, st store.Store, selectors []string) error {
	began := time.Now()
	for {
		groups, err := readGroups(ctx, st)
		if err != nil {
			return err
		}
		live, _, err := st.List(ctx, tree.Hosts)
		if err != nil {
			return err
		}
		done, behind, err := following(live, groups, selectors)
		if err != nil {
			return err
		}
		if len(behind) == 0 {
			_, err := fmt.Fprintf(w, "%s of it answer what they are to carry, after %.1f s\n", count(done, "live host"), time.Since(began).Seconds())
			return err
		}
		if err := pause(ctx, groupLook); err != nil {
			return timeoutError{hinted{
				fmt.Errorf("the group is set, but after %v hosts do not follow: %s", time.Since(began).Round(time.Second), strings.Join(behind, "; ")),
				"nothing is lost: they carry what they did; `zonecast status` has why",
			}}
		}
	}
}

// following tells how many of the live hosts that selectors name carry what groups say, and of the
// others what they do.
func following(live []store.Node, groups []groupView, selectors []string) (done int, behind []string, err error) {
	for _, n := range live {
		var h tree.Host
		if err := tree.Decode(n, &h); err != nil {
			return 0, nil, err
		}
		if !(trial.Ring{Hosts: selectors}).Has(h.Name, h.Labels) {
			continue
		}
		var want []string
		for _, g := range groups {
			if (trial.Ring{Hosts: g.Hosts}).Has(h.Name, h.Labels) {
				want = join(want, g.Datasets)
			}
		}
		var missing []string
		for _, d := range h.Carries {
			if h.Datasets[d].Version == 0 {
				missing = append(missing, d)
			}
		}
		switch {
		case !slices.Equal(h.Carries, want):
			behind = append(behind, fmt.Sprintf("%s carries %s, expected %s", h.Name, strings.Join(h.Carries, " "), strings.Join(want, " ")))
		case len(missing) > 0:
			behind = append(behind, fmt.Sprintf("%s does not answer %s yet", h.Name, strings.Join(missing, " ")))
		default:
			done++
		}
	}
	return done, behind, nil
}

// join adds what is not there yet.
func join(all, more []string) []string {
	for _, s := range more {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// checkGroup tells why name is no group's.
func checkGroup(name string) error {
	if err := store.CheckPath(tree.GroupPath(name)); err != nil || filepath.Base(name) != name {
		return fmt.Errorf("group is %.80q, expected one path element of printable ASCII", name)
	}
	return nil
}

// ownGroup reads the node of a group, which need not be there, and tells why it is not to be changed
// by command: a configuration owns it.
func ownGroup(ctx context.Context, st store.Store, name string) (n store.Node, err error) {
	n, err = st.Get(ctx, tree.GroupPath(name))
	if errors.Is(err, store.ErrNotFound) {
		return store.Node{}, nil
	}
	var g tree.Group
	if err != nil || tree.Decode(n, &g) != nil || g.Config == "" { // what cannot be read is made anew
		return n, err
	}
	return n, hinted{
		fmt.Errorf("group %s is of the configuration %s, where %s set it: %s", name, plain(g.Config), plain(g.Author), plain(g.Reason)),
		"change it there (`zonecast config`); a group that the configuration does not have is set by command",
	}
}

// putGroup changes the node of a group, and notes it for the audit.
func putGroup(ctx context.Context, st store.Store, cond store.Cond, op store.Op, e tree.AuditEntry) error {
	fresh, note := tree.AuditOps(e)
	_, err := st.Commit(ctx, store.Txn{If: []store.Cond{cond, fresh}, Do: []store.Op{op, note}})
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("group %s was changed by somebody else meanwhile: look at it, and try again", e.Subject)
	}
	return err
}

func newGroupsSet() *cobra.Command {
	var o keyStoreOptions
	var by changeOptions
	var hosts []string
	var wait bool
	cmd := &cobra.Command{
		Use: "set GROUP DATASET…", Short: "have hosts carry datasets", Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return misused(cmd, errors.New("groups set takes the name of a group and datasets"))
			}
			return nil
		},
		Long: `set says which hosts are of a group and which datasets they carry; it takes the place of what the group was. Hosts follow while they run: first they
take up what is new to them, and when they have a version of all, they drop what they carry no more.`,
		Example: `  zonecast groups set edge edge --hosts role=edge --reason "internal names stay inside"
  zonecast groups set all internal edge --hosts 'dns*'`,
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, args []string) error {
		now := time.Now().UnixMilli()
		group := tree.Group{Datasets: args[1:], Hosts: hosts, Set: now, Author: by.Author, Reason: by.Reason, From: processID()}
		if err := errors.Join(checkGroup(args[0]), datasets.CheckCarried(group.Datasets), trial.CheckSelectors(group.Hosts)); err != nil {
			return misused(cmd, err)
		}
		for _, d := range group.Datasets {
			if _, err := st.Get(ctx, tree.HeadPath(d)); errors.Is(err, store.ErrNotFound) {
				return hinted{fmt.Errorf("the store has no dataset %s", d), "hosts would wait for it: start its presenter first"}
			} else if err != nil {
				return err
			}
		}
		path := tree.GroupPath(args[0])
		n, err := ownGroup(ctx, st, args[0])
		if err != nil {
			return err
		}
		e := tree.AuditEntry{
			Time: now, Action: "group set", Subject: args[0], Author: group.Author, Reason: by.Reason, From: group.From,
			Text: fmt.Sprintf("hosts %s carry %s", strings.Join(hosts, " "), strings.Join(group.Datasets, " ")),
		}
		if err := putGroup(ctx, st, store.Cond{Path: path, Modified: n.Modified}, store.Op{Path: path, Value: tree.Encode(group)}, e); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "group %s: %s\n", plain(args[0]), plain(e.Text)); err != nil || !wait {
			return err
		}
		return awaitGroups(ctx, cmd.OutOrStdout(), st, group.Hosts)
	})
	declareGroupWait(cmd, &wait)
	cmd.Flags().StringSliceVar(&hosts, "hosts", nil, "hosts of the group: names with * and ?, KEY=VALUE (a label of the host) or share:N%")
	by.declareAuthor(cmd)
	return cmd
}

func newGroupsRemove() *cobra.Command {
	var o keyStoreOptions
	var by changeOptions
	cmd := &cobra.Command{
		Use: "remove GROUP", Short: "have hosts carry what their options say", Args: exactArgs("GROUP"),
		Long:    `remove takes a group away. Its hosts carry what other groups, or else their options, say.`,
		Example: `  zonecast groups remove edge --reason "one dataset again"`,
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, args []string) error {
		if err := checkGroup(args[0]); err != nil {
			return misused(cmd, err)
		}
		path := tree.GroupPath(args[0])
		n, err := ownGroup(ctx, st, args[0])
		if err != nil {
			return err
		}
		if n.Path == "" {
			return fmt.Errorf("there is no group %.40q", args[0])
		}
		e := tree.AuditEntry{Time: time.Now().UnixMilli(), Action: "group removed", Subject: args[0], Author: by.Author, Reason: by.Reason, From: processID(), Text: "its hosts carry what other groups, or their options, say"}
		if err := putGroup(ctx, st, store.Cond{Path: path, Modified: n.Modified}, store.Op{Path: path, Delete: true}, e); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "group %s is gone\n", plain(args[0]))
		return err
	})
	by.declareAuthor(cmd)
	return cmd
}
