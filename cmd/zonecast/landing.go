package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/configurator/review"
)

// What has landed, and what was done to the branch (docs/review.md).

// landingView is a landing as JSON.
type landingView struct {
	Commit   string   `json:"commit"`
	Number   int32    `json:"number,omitempty"`
	Title    string   `json:"title"`
	Author   string   `json:"author"`
	By       string   `json:"by"`
	Time     int64    `json:"time_ms"`
	Approved []string `json:"approved"`
	Reverts  int32    `json:"reverts,omitempty"`
}

func viewOfLanding(l *configapi.Landing) landingView {
	return landingView{l.Commit, l.Number, l.Title, l.Author, l.By, l.TimeMs, l.Approved, l.Reverts}
}

func newLand() *cobra.Command {
	var o changeOptions
	cmd := clientCommand("land NUMBER", "put a proposal in force",
		`land merges an approved proposal on top of what has landed since, and puts it in force. If it would do something else than what was approved, or conflicts with what
landed meanwhile, nothing happens to the branch, and it says with whom.`,
		numbered(exactArgs("NUMBER")), func(ctx context.Context, s *session, args []string) error {
			began := time.Now()
			e := review.Event{Do: review.Land}
			if o.Key != "" { // what is signed names the plan
				l, err := s.Configuration.Review(ctx, numberOf(args))
				if err != nil {
					return err
				}
				e.Head, e.Plan = hashOf(l.Proposal.Head), l.Plan.Digest
			}
			a, err := s.act(ctx, o, numberOf(args), e)
			if err != nil {
				return err
			}
			l, err := s.Configuration.Land(ctx, numberOf(args), a)
			if err != nil {
				return err
			}
			what := fmt.Sprintf("proposal %s, commit %s", args[0], short(l.Commit))
			if !o.Wait {
				return s.print(viewOfLanding(l), func(out io.Writer) {
					fmt.Fprintf(out, "%s: landed (--wait returns when every host answers it)\n", what)
				})
			}
			const margin = 100 * time.Millisecond
			left := s.Timeout - time.Since(began) - margin
			rev, err := s.Configuration.Landed(ctx, l.Commit, int32(max(left.Milliseconds(), 1)))
			if err != nil {
				return fmt.Errorf("%s: landed, and not in force: %w", what, explain(err))
			}
			return s.finishAs(ctx, o, "claims", what, began, &answer.Change{Revision: rev, Changed: true}, nil, func(a arrival) any {
				return struct {
					landingView
					arrival
				}{viewOfLanding(l), a}
			})
		})
	o.declareSigned(cmd)
	return cmd
}

func newRevert() *cobra.Command {
	var o changeOptions
	cmd := clientCommand("revert NUMBER", "propose to take back what has landed", "revert proposes the inverse of what a proposal has changed, on top of what has landed since. It is reviewed like any other.",
		numbered(exactArgs("NUMBER")), func(ctx context.Context, s *session, args []string) error {
			if o.Reason == "" {
				return usageError{errors.New("--reason is missing: why it is to be taken back")}
			}
			a, err := s.act(ctx, o, 0, review.Event{Do: review.Propose, Content: "revert " + args[0]})
			if err != nil {
				return err
			}
			p, err := s.Configuration.Revert(ctx, numberOf(args), a)
			if err != nil {
				return err
			}
			return s.proposal(p)
		})
	declareActs(cmd, &o)
	return cmd
}

func newLog() *cobra.Command {
	var limit int32
	var start string
	cmd := clientCommand("log [PATH]", "list what has landed", "log lists what has landed, the newest first; with a path of a file or folder what changed there.",
		upTo("PATH"), func(ctx context.Context, s *session, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			page, err := s.Configuration.Log(ctx, start, path, limit)
			if err != nil {
				return err
			}
			views := []landingView{}
			for _, l := range page.Landings {
				views = append(views, viewOfLanding(l))
			}
			return s.print(views, func(out io.Writer) {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				for _, l := range views {
					number := "-"
					if l.Number > 0 {
						number = strconv.Itoa(int(l.Number))
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", short(l.Commit), dateOf(l.Time), number, plain(l.Author), plain(l.Title))
				}
				w.Flush()
				if page.Rest != "" {
					fmt.Fprintf(out, "… --start %s goes on\n", plain(page.Rest))
				}
			})
		})
	cmd.Flags().Int32Var(&limit, "limit", 20, "at most so many")
	cmd.Flags().StringVar(&start, "start", "", "commit to begin with, in 40 digits; by default the newest")
	return cmd
}

// stateView is where the configuration is, as JSON.
type stateView struct {
	Repository string `json:"repository"`
	Branch     string `json:"branch"`
	Remote     string `json:"remote,omitempty"`
	Tip        string `json:"tip,omitempty"`
	InForce    bool   `json:"in_force"`
	Problem    string `json:"problem,omitempty"`
	Trouble    string `json:"trouble,omitempty"`
	Found      string `json:"found,omitempty"`
}

func newState() *cobra.Command {
	return clientCommand("state", "show where the configuration is and how far it came",
		"state shows the repository's branch, the commit that counts and whether it is in force, and what is wrong: a mistake in a branch that is followed, or that somebody moved the branch.",
		exactArgs(), func(ctx context.Context, s *session, _ []string) error {
			r, err := s.Configuration.Repository(ctx)
			if err != nil {
				return err
			}
			return s.state(r)
		})
}

func (s *session) state(r *configapi.Repository) error {
	v := stateView{r.ID, r.Branch, r.Remote, r.Tip, r.Tip != "" && r.Tip == r.Landed && r.Problem == "", r.Problem, r.Trouble, r.Found}
	return s.print(v, func(out io.Writer) {
		where := "reviewed and landed here"
		if v.Remote != "" {
			where = "follows " + v.Remote
		}
		fmt.Fprintf(out, "branch %s of repository %s, %s\n", plain(v.Branch), plain(v.Repository), plain(where))
		switch {
		case v.Tip == "":
			fmt.Fprintln(out, s.paint(yellow, "there is no commit yet"))
		case v.InForce:
			fmt.Fprintf(out, "commit %s is %s\n", short(v.Tip), s.paint(green, "in force"))
		case v.Problem != "":
			fmt.Fprintf(out, "commit %s is %s, what was before it stays\n", short(v.Tip), s.paint(red, "not in force"))
			for line := range strings.Lines(v.Problem) {
				fmt.Fprintf(out, "  %s\n", plain(strings.TrimSuffix(line, "\n")))
			}
		default:
			fmt.Fprintf(out, "commit %s is on its way\n", short(v.Tip))
		}
		if v.Trouble != "" {
			fmt.Fprintln(out, s.paint(red, plain(v.Trouble)))
		}
		if v.Found != "" {
			fmt.Fprintf(out, "to take it: zonecast config accept %s --reason …\nto put it back: zonecast config restore --reason …\n", plain(v.Found))
		}
	})
}

func newAccept() *cobra.Command {
	var o changeOptions
	cmd := clientCommand("accept COMMIT", "let a branch that was rewritten count", "accept lets the branch count from COMMIT on, to which somebody has moved it by force. What counted before is kept below refs/zonecast/rewrites.",
		exactArgs("COMMIT"), func(ctx context.Context, s *session, args []string) error {
			return s.settle(ctx, o, "accept", func(*configapi.Repository) string { return args[0] }, func(a *configapi.Act, found string) (*configapi.Repository, error) {
				return s.Configuration.Accept(ctx, found, a)
			})
		})
	declareActs(cmd, &o)
	return cmd
}

func newRestore() *cobra.Command {
	var o changeOptions
	cmd := clientCommand("restore", "put a branch that was rewritten back", "restore puts the branch back to the commit that counted before somebody moved it. What it was moved to is kept below refs/zonecast/rewrites.",
		exactArgs(), func(ctx context.Context, s *session, _ []string) error {
			return s.settle(ctx, o, "restore", (*configapi.Repository).GetFound, func(a *configapi.Act, found string) (*configapi.Repository, error) {
				return s.Configuration.Restore(ctx, a, found)
			})
		})
	declareActs(cmd, &o)
	return cmd
}

// settle does something about a branch that was moved to where found says.
func (s *session) settle(ctx context.Context, o changeOptions, do string, found func(*configapi.Repository) string, call func(a *configapi.Act, found string) (*configapi.Repository, error)) error {
	if o.Reason == "" {
		return usageError{errors.New("--reason is missing: those who come after you will ask")}
	}
	r, err := s.Configuration.Repository(ctx)
	if err != nil {
		return err
	}
	a := &configapi.Act{Who: o.Author, Why: o.Reason, Signature: []byte{}}
	to := found(r)
	if o.Key != "" {
		at := time.Now().Truncate(time.Millisecond)
		if err := sign(a, o.Key, at, review.BranchStatement(r.ID, do, hashOf(r.Tip), hashOf(to), review.Act{Who: o.Author, Why: o.Reason, At: at})); err != nil {
			return err
		}
	}
	if r, err = call(a, to); err != nil {
		return err
	}
	return s.state(r)
}
