package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/configapi"
)

// What is changed in a directory, and what it would do (docs/review.md).

// changesError says that a plan is not empty.
type changesError struct{}

func (changesError) Error() string { return "something changes" }

func (changesError) exitStatus() int { return exitChanges }

func newCheckout() *cobra.Command {
	var force bool
	cmd := clientCommand("checkout [DIR]", "write what has landed into a directory",
		`checkout writes the files of the configuration as it has landed into DIR (.), and remembers the commit in DIR/.zonecast. A second time it brings what has
landed since; files that were changed here stay, and where others changed the same file nothing is done at all, unless --force is given. What was changed here and has
landed meanwhile is brought up to date, too.`,
		upTo("DIR"), func(ctx context.Context, s *session, args []string) error {
			w, err := openWorkdir(ctx, dirArg(args, 0))
			if err != nil {
				return err
			}
			to, err := treeOf(ctx, s, "")
			if err != nil {
				return err
			}
			did, err := w.update(ctx, s, to, force)
			if err != nil {
				return err
			}
			v := struct {
				Commit  string   `json:"commit"`
				Files   int      `json:"files"`
				Written int      `json:"written"`
				Removed int      `json:"removed"`
				Kept    []string `json:"kept"`
			}{to.Commit, len(to.Files), did.written, did.removed, append([]string{}, did.kept...)}
			return s.print(v, func(out io.Writer) {
				fmt.Fprintf(out, "%s: %s of commit %s, %d written, %d removed\n", plain(w.dir), count(v.Files, "file"), short(v.Commit), v.Written, v.Removed)
				for _, k := range v.Kept {
					fmt.Fprintf(out, "%s what was changed here is kept as %s\n", s.paint(yellow, "note:"), plain(k))
				}
			})
		})
	cmd.Flags().BoolVar(&force, "force", false, "where both changed a file take what has landed, and keep what is here in "+keptDir)
	return cmd
}

// changesIn gives a directory's base and what differs from it.
func (s *session) changesIn(ctx context.Context, dir, base string) (*marker, []*configapi.Edit, error) {
	w, err := openWorkdir(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	m, err := w.base(ctx, s, base)
	if err != nil {
		return nil, nil, err
	}
	edits, err := w.edits(m)
	return m, edits, err
}

const baseHelp = "commit from which the files were made, or tip; by default what the checkout, or git, says"

func newPlan() *cobra.Command {
	var base, format string
	cmd := clientCommand("plan [DIR]", "show what would change if a directory landed",
		`plan compiles the files of DIR (.) on top of what has landed, and shows what would change: records by zone, configurations, claims that do not hold, conflicts,
what guards would hold, and how much of the live traffic asks for it. Nothing is proposed. It exits with 0 when nothing would change and with 4 when something would.`,
		upTo("DIR"), func(ctx context.Context, s *session, args []string) error {
			if !slices.Contains([]string{"text", "markdown", "json"}, format) {
				return usageError{fmt.Errorf("--format is %q, expected text, markdown or json", format)}
			}
			m, edits, err := s.changesIn(ctx, dirArg(args, 0), base)
			if err != nil {
				return err
			}
			p, err := s.Configuration.Plan(ctx, m.Commit, edits)
			if err != nil {
				return err
			}
			if s.JSON {
				format = "json"
			}
			if err := s.plan(p, format); err != nil {
				return err
			}
			if !p.Empty {
				return changesError{}
			}
			return nil
		})
	cmd.Flags().StringVar(&base, "base", "", baseHelp)
	cmd.Flags().StringVar(&format, "format", "text", "text, markdown (for a comment of a forge) or json")
	return cmd
}

func (s *session) plan(p *configapi.Plan, format string) (err error) {
	switch format {
	case "json":
		_, err = fmt.Fprintln(s.out, p.JSON)
	case "markdown":
		_, err = io.WriteString(s.out, p.Markdown)
	default:
		for line := range strings.Lines(p.Text) {
			text := plain(strings.TrimSuffix(line, "\n"))
			switch {
			case strings.HasPrefix(text, "  +"):
				text = s.paint(green, text)
			case strings.HasPrefix(text, "  -"):
				text = s.paint(red, text)
			case strings.HasPrefix(text, "  ~"):
				text = s.paint(yellow, text)
			}
			if _, err := fmt.Fprintln(s.out, text); err != nil {
				return err
			}
		}
	}
	return err
}
