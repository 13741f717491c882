package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/snapshot"
)

// Commands of review (docs/review.md).

func reviewCommands() []*cobra.Command {
	return []*cobra.Command{
		newCheckout(), newPlan(), newPropose(), newRevise(), newReview(), newComment(), newApprove(), newReject(), newLand(), newRevert(), newProposals(), newLog(), newShow(), newState(), newAccept(), newRestore(),
	}
}

// dirArg is the directory of a command that may have one behind n other arguments.
func dirArg(args []string, n int) string {
	if len(args) > n {
		return args[n]
	}
	return "."
}

// upTo is exactArgs with one more that may be missing.
func upTo(last string, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) || len(args) > len(names)+1 {
			return misused(cmd, fmt.Errorf("%s takes %s, found %q", cmd.CommandPath(), strings.TrimSpace(strings.Join(names, " ")+" ["+last+"]"), args))
		}
		return nil
	}
}

// numbered is upTo or exactArgs of a command whose first argument is a proposal's number.
func numbered(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return err
		}
		if n, err := strconv.ParseInt(given[0], 10, 32); err != nil || n < 1 {
			return misused(cmd, fmt.Errorf("proposal is %q, expected its number", given[0]))
		}
		return nil
	}
}

func numberOf(args []string) int32 {
	n, _ := strconv.ParseInt(args[0], 10, 32) // numbered has looked
	return int32(n)
}

// act makes who does what, signed when there is a key. e has what the act means beside who,
// when and why; number is 0 for what is proposed.
func (s *session) act(ctx context.Context, o changeOptions, number int32, e review.Event) (*configapi.Act, error) {
	a := &configapi.Act{Who: o.Author, Why: o.Reason, Signature: []byte{}}
	if o.Key == "" {
		return a, nil
	}
	r, err := s.Configuration.Repository(ctx)
	if err != nil {
		return nil, err
	}
	e.Who, e.Why, e.At = o.Author, o.Reason, time.Now().Truncate(time.Millisecond)
	return a, sign(a, o.Key, e.At, review.Statement(r.ID, int(number), e))
}

func sign(a *configapi.Act, file string, at time.Time, text []byte) error {
	key, err := snapshot.LoadPrivateKey(file)
	if err != nil {
		return hinted{err, "`zonecast operator keygen` makes a key"}
	}
	a.AtMs, a.Signature = at.UnixMilli(), operator.SignText(key, text)
	return nil
}

func hashOf(s string) repo.Hash {
	h, _ := repo.ParseHash(s) // of the server's; zero signs nothing that it takes
	return h
}

func short(commit string) string { return plain(commit[:min(len(commit), 12)]) }

// proposalView is a proposal as JSON.
type proposalView struct {
	Number  int32       `json:"number"`
	Title   string      `json:"title"`
	Reason  string      `json:"reason,omitempty"`
	Author  string      `json:"author"`
	State   string      `json:"state"`
	Why     string      `json:"why,omitempty"`
	Created int64       `json:"created_ms"`
	Changed int64       `json:"changed_ms"`
	Base    string      `json:"base,omitempty"`
	Head    string      `json:"head,omitempty"`
	Reverts int32       `json:"reverts,omitempty"`
	Landed  string      `json:"landed,omitempty"`
	Events  []eventView `json:"events,omitempty"`
}

type eventView struct {
	Time int64  `json:"time_ms"`
	Who  string `json:"who"`
	Do   string `json:"do"`
	Why  string `json:"why,omitempty"`
	Plan string `json:"plan,omitempty"`
}

func viewOfProposal(p *configapi.Proposal) proposalView {
	v := proposalView{p.Number, p.Title, p.Reason, p.Author, p.State, p.Why, p.CreatedMs, p.ChangedMs, p.Base, p.Head, p.Reverts, p.Landed, nil}
	for _, e := range p.Events {
		v.Events = append(v.Events, eventView{e.AtMs, e.Who, e.What, e.Why, e.Plan})
	}
	return v
}

// proposal prints what became of a proposal in a line.
func (s *session) proposal(p *configapi.Proposal) error {
	return s.print(viewOfProposal(p), func(out io.Writer) {
		fmt.Fprintf(out, "proposal %d: %s: %s, %s\n", p.Number, plain(p.Title), plain(p.Author), s.paint(colorOf(p.State), p.State))
	})
}

func colorOf(state string) string {
	switch state {
	case "approved", "landed":
		return green
	case "again":
		return yellow
	case "rejected", "expired":
		return red
	}
	return faint
}

// declareActs declares the options of an act that needs no --wait.
func declareActs(cmd *cobra.Command, o *changeOptions) {
	o.declareSigned(cmd)
	if f := cmd.Flags().Lookup("wait"); f != nil {
		f.Hidden = true
	}
}

func newPropose() *cobra.Command {
	var o changeOptions
	var title, base, commit string
	cmd := clientCommand("propose [DIR]", "propose what was changed in a directory",
		`propose asks others to agree with what was changed in DIR (.). It is merged on top of what has landed, compiled and planned first; what does not compile, or conflicts
with what has landed, is refused at once. With --commit it proposes a commit that was pushed into the repository.`,
		upTo("DIR"), func(ctx context.Context, s *session, args []string) error {
			if title == "" {
				return usageError{errors.New("--title is missing: what the change is, in a line")}
			}
			if o.Reason == "" {
				return usageError{errors.New("--reason is missing: why, for those who are to agree")}
			}
			draft := review.Draft{Title: title, Reason: o.Reason, Commit: hashOf(commit)}
			edits, at, err := s.draft(ctx, dirArg(args, 0), base, commit, &draft)
			if err != nil {
				return err
			}
			a, err := s.act(ctx, o, 0, review.Event{Do: review.Propose, Content: draft.Content()})
			if err != nil {
				return err
			}
			p, err := s.Configuration.Propose(ctx, a, title, at, edits, commit)
			if err != nil {
				return err
			}
			return s.proposal(p)
		})
	declareActs(cmd, &o)
	cmd.Flags().StringVar(&title, "title", "", "what the change is, in a line")
	cmd.Flags().StringVar(&base, "base", "", baseHelp)
	cmd.Flags().StringVar(&commit, "commit", "", "commit in the repository, in place of DIR")
	return cmd
}

// draft fills in what is proposed.
func (s *session) draft(ctx context.Context, dir, base, commit string, d *review.Draft) (edits []*configapi.Edit, at string, err error) {
	if commit != "" {
		return []*configapi.Edit{}, "", nil
	}
	m, edits, err := s.changesIn(ctx, dir, base)
	if err != nil {
		return nil, "", err
	}
	d.Base, d.Files = hashOf(m.Commit), map[string][]byte{}
	for _, e := range edits {
		d.Files[e.Path] = e.Content
		if !e.Remove && e.Content == nil {
			d.Files[e.Path] = []byte{}
		}
	}
	return edits, m.Commit, nil
}

func newRevise() *cobra.Command {
	var o changeOptions
	var base, commit string
	cmd := clientCommand("revise NUMBER [DIR]", "propose something else in place of what was proposed", `revise replaces what a proposal of one's own proposes by what was changed in DIR (.). Approvals do not count any more.`,
		numbered(upTo("DIR", "NUMBER")), func(ctx context.Context, s *session, args []string) error {
			p, err := s.Configuration.Show(ctx, numberOf(args))
			if err != nil {
				return err
			}
			draft := review.Draft{Title: p.Title, Reason: o.Reason, Commit: hashOf(commit)}
			edits, at, err := s.draft(ctx, dirArg(args, 1), base, commit, &draft)
			if err != nil {
				return err
			}
			a, err := s.act(ctx, o, p.Number, review.Event{Do: review.Revise, Content: draft.Content()})
			if err != nil {
				return err
			}
			if p, err = s.Configuration.Revise(ctx, p.Number, a, at, edits, commit); err != nil {
				return err
			}
			return s.proposal(p)
		})
	declareActs(cmd, &o)
	cmd.Flags().StringVar(&base, "base", "", baseHelp)
	cmd.Flags().StringVar(&commit, "commit", "", "commit in the repository, in place of DIR")
	return cmd
}

// lookView is a proposal as it would land now, as JSON.
type lookView struct {
	proposalView
	Tip          string            `json:"tip"`
	Paths        []string          `json:"changed"`
	Plan         json.RawMessage   `json:"plan,omitempty"`
	Requirements []requirementView `json:"requirements"`
	Problem      string            `json:"problem,omitempty"`
	Void         []string          `json:"void_approvals"`
}

type requirementView struct {
	Text string   `json:"text"`
	Need int32    `json:"need"`
	By   []string `json:"by"`
	Met  bool     `json:"met"`
}

func newReview() *cobra.Command {
	var diff bool
	cmd := clientCommand("review NUMBER", "show a proposal as it would land now",
		"review shows what a proposal would change if it landed now: the plan, whose approvals are there, whose are missing and which do not count, and what stands in its way.",
		numbered(exactArgs("NUMBER")), func(ctx context.Context, s *session, args []string) error {
			l, err := s.Configuration.Review(ctx, numberOf(args))
			if err != nil {
				return err
			}
			v := lookView{viewOfProposal(l.Proposal), l.Tip, l.Changed, nil, []requirementView{}, l.Problem, l.VoidApprovals}
			if l.Plan.JSON != "" {
				v.Plan = json.RawMessage(l.Plan.JSON)
			}
			for _, q := range l.Requirements {
				v.Requirements = append(v.Requirements, requirementView{q.Text, q.Need, q.By, q.Met})
			}
			if s.JSON {
				return json.NewEncoder(s.out).Encode(v)
			}
			s.look(l)
			if !diff {
				return nil
			}
			return s.diff(ctx, l.Proposal.Number)
		})
	cmd.Flags().BoolVar(&diff, "diff", false, "also show the lines that change")
	return cmd
}

func (s *session) diff(ctx context.Context, number int32) error {
	d, err := s.Configuration.Diff(ctx, number)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	for line := range strings.Lines(d.Text) {
		text := plain(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    "))
		switch {
		case strings.HasPrefix(text, "+"):
			text = s.paint(green, text)
		case strings.HasPrefix(text, "-"):
			text = s.paint(red, text)
		}
		fmt.Fprintln(s.out, text)
	}
	if d.Cut {
		fmt.Fprintln(s.out, "… and more")
	}
	return nil
}

// look prints a proposal as people read it.
func (s *session) look(l *configapi.Look) {
	p := l.Proposal
	fmt.Fprintf(s.out, "proposal %d: %s: %s, %s\n", p.Number, plain(p.Title), plain(p.Author), s.paint(colorOf(p.State), p.State))
	for line := range strings.Lines(p.Reason) {
		fmt.Fprintf(s.out, "  %s\n", plain(strings.TrimSuffix(line, "\n")))
	}
	if p.Why != "" {
		fmt.Fprintf(s.out, "%s\n", s.paint(yellow, plain(p.Why)))
	}
	const shown = 20
	for _, path := range l.Changed[:min(len(l.Changed), shown)] {
		fmt.Fprintf(s.out, "  %s\n", plain(path))
	}
	if more := len(l.Changed) + int(l.More) - shown; more > 0 {
		fmt.Fprintf(s.out, "  and %d more\n", more)
	}
	if l.Problem != "" {
		fmt.Fprintf(s.out, "%s %s\n", s.paint(red, "it cannot land:"), plain(l.Problem))
	}
	if l.Plan.Text != "" {
		_ = s.plan(l.Plan, "text") // to where all goes; the last line tells
		fmt.Fprintf(s.out, "plan %s\n", plain(l.Plan.Digest))
	}
	for _, q := range l.Requirements {
		mark := s.paint(yellow, "missing")
		if q.Met {
			mark = s.paint(green, "is there")
		}
		fmt.Fprintf(s.out, "%s: %s\n", mark, plain(q.Text))
	}
	for _, v := range l.VoidApprovals {
		fmt.Fprintf(s.out, "%s\n", s.paint(yellow, plain(v)))
	}
}

func newComment() *cobra.Command {
	var o changeOptions
	cmd := clientCommand("comment NUMBER", "say something about a proposal", "comment adds what --reason says to a proposal's history.",
		numbered(exactArgs("NUMBER")), func(ctx context.Context, s *session, args []string) error {
			return s.simply(ctx, o, numberOf(args), review.Comment, s.Configuration.Comment)
		})
	declareActs(cmd, &o)
	return cmd
}

// simply does an act that means the proposal's commit and nothing else.
func (s *session) simply(ctx context.Context, o changeOptions, number int32, do review.Deed, call func(context.Context, int32, *configapi.Act) (*configapi.Proposal, error)) error {
	if o.Reason == "" {
		return usageError{errors.New("--reason is missing: what you have to say")}
	}
	p, err := s.Configuration.Show(ctx, number)
	if err != nil {
		return err
	}
	a, err := s.act(ctx, o, number, review.Event{Do: do, Head: hashOf(p.Head)})
	if err != nil {
		return err
	}
	if p, err = call(ctx, number, a); err != nil {
		return err
	}
	return s.proposal(p)
}

func newApprove() *cobra.Command {
	var o changeOptions
	var seen string
	cmd := clientCommand("approve NUMBER --plan DIGEST", "agree with what a proposal would change",
		`approve notes that one of the owners agrees with what the proposal changes. --plan is the digest that review showed, all of it: if the proposal would change something
else by now, it is not approved. On a terminal, without --plan, the proposal is shown and asked about.`,
		numbered(exactArgs("NUMBER")), func(ctx context.Context, s *session, args []string) error {
			if seen == "" && !s.asks() {
				return usageError{hinted{errors.New("--plan is missing: the digest of what was seen"), fmt.Sprintf("`zonecast config review %s` shows it", args[0])}}
			}
			l, err := s.Configuration.Review(ctx, numberOf(args))
			if err != nil {
				return err
			}
			if l.Problem != "" {
				return fmt.Errorf("it cannot land: %s", l.Problem)
			}
			if seen == "" {
				s.look(l)
				if err := s.diff(ctx, l.Proposal.Number); err != nil {
					return err
				}
				yes, err := confirm(s.in, s.out, "approve this? [y/N] ")
				if err != nil {
					return err
				}
				if !yes {
					return errors.New("nothing was approved")
				}
				seen = l.Plan.Digest
				// Whoever reads takes their time.
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(s.whole, s.Timeout)
				defer cancel()
			}
			// A part of the digest would not do: who proposes could look for another change
			// whose digest begins the same.
			if seen != l.Plan.Digest {
				return hinted{fmt.Errorf("proposal %s: was seen with plan %s, and would do %s: nothing is approved", args[0], plain(seen), l.Plan.Digest), fmt.Sprintf("look at it again: `zonecast config review %s`", args[0])}
			}
			a, err := s.act(ctx, o, l.Proposal.Number, review.Event{Do: review.Approve, Head: hashOf(l.Proposal.Head), Plan: seen})
			if err != nil {
				return err
			}
			p, err := s.Configuration.Approve(ctx, l.Proposal.Number, a, seen)
			if err != nil {
				return err
			}
			return s.proposal(p)
		})
	declareActs(cmd, &o)
	cmd.Flags().StringVar(&seen, "plan", "", "digest of the plan that was looked at")
	return cmd
}

// asks tells whether a person can be asked.
func (s *session) asks() bool {
	f, ok := s.in.(*os.File)
	return ok && isTerminal(f) && isTerminal(s.out) && !s.JSON
}

// confirm asks a question; anything but y or yes is no.
func confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	fmt.Fprint(out, question)
	line, err := bufio.NewReader(io.LimitReader(in, 1000)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

func newReject() *cobra.Command {
	var o changeOptions
	cmd := clientCommand("reject NUMBER", "end a proposal", "reject ends a proposal; its author may, and whoever may approve it. --reason says why.",
		numbered(exactArgs("NUMBER")), func(ctx context.Context, s *session, args []string) error {
			return s.simply(ctx, o, numberOf(args), review.Reject, s.Configuration.Reject)
		})
	declareActs(cmd, &o)
	return cmd
}

func newProposals() *cobra.Command {
	var states []string
	var limit, below int32
	cmd := clientCommand("proposals", "list proposals", "proposals lists the newest first; --state open,approved,again are those that something is to be done about.",
		exactArgs(), func(ctx context.Context, s *session, args []string) error {
			page, err := s.Configuration.Proposals(ctx, below, limit, states)
			if err != nil {
				return err
			}
			views := []proposalView{}
			for _, p := range page.Proposals {
				views = append(views, viewOfProposal(p))
			}
			return s.print(views, func(out io.Writer) {
				if len(views) == 0 {
					fmt.Fprintln(out, "no proposals")
					return
				}
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				for _, p := range views {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", p.Number, plain(p.State), plain(p.Author), dateOf(p.Changed), plain(p.Title))
				}
				w.Flush()
				if page.Rest > 0 {
					fmt.Fprintf(out, "… --below %d goes on\n", page.Rest)
				}
			})
		})
	cmd.Flags().Int32Var(&below, "below", 0, "only those with a smaller number; 0 means all")
	cmd.Flags().StringSliceVar(&states, "state", []string{}, "open, approved, again, landed, rejected, expired; all by default")
	cmd.Flags().Int32Var(&limit, "limit", 100, "at most so many")
	return cmd
}

func dateOf(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04") }

func newShow() *cobra.Command {
	return clientCommand("show NUMBER", "show a proposal with its history", "show tells everything that happened to a proposal, and the lines that it changes or has changed.",
		numbered(exactArgs("NUMBER")), func(ctx context.Context, s *session, args []string) error {
			p, err := s.Configuration.Show(ctx, numberOf(args))
			if err != nil {
				return err
			}
			if s.JSON {
				return json.NewEncoder(s.out).Encode(viewOfProposal(p))
			}
			if err := s.proposal(p); err != nil {
				return err
			}
			for line := range strings.Lines(p.Reason) {
				fmt.Fprintf(s.out, "  %s\n", plain(strings.TrimSuffix(line, "\n")))
			}
			for _, e := range p.Events {
				fmt.Fprintf(s.out, "%s  %s  %s", dateOf(e.AtMs), plain(e.What), plain(e.Who))
				if e.Plan != "" {
					fmt.Fprintf(s.out, "  plan %s", short(e.Plan))
				}
				if e.Why != "" && e.Why != p.Reason {
					fmt.Fprintf(s.out, "  %s", plain(strings.ReplaceAll(e.Why, "\n", " ")))
				}
				fmt.Fprintln(s.out)
			}
			return s.diff(ctx, p.Number)
		})
}
