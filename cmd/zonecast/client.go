package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/service"
)

// clientOptions are the options of every command that asks or changes something.
type clientOptions struct {
	API     string        `option:"api" help:"address of the API: host:port, or unix:///path"`
	JSON    bool          `option:"json" help:"print JSON and nothing else"`
	Dataset string        `option:"dataset" help:"the dataset that is meant; empty: of a name the one that has it, otherwise the first or all that are served"`
	Timeout time.Duration `option:"timeout" help:"how long the command may take, waiting included"`
	Color   string        `option:"color" help:"colours: auto, always or never"`
}

func defaultClientOptions() clientOptions {
	return clientOptions{API: "127.0.0.1:7353", Timeout: 10 * time.Second, Color: "auto"}
}

// Validate implements the kit's check.
func (o *clientOptions) Validate() error {
	if o.Timeout <= 0 {
		return service.Invalid("timeout", "more than 0")
	}
	switch o.Color {
	case "auto", "always", "never":
		return nil
	}
	return service.Invalid("color", "auto, always or never")
}

// session is one run of a client command.
type session struct {
	*clientOptions
	*api.Client
	in       io.Reader
	out, err io.Writer
	color    bool
	// whole ends with the command, and not with its time: for what goes on after a person
	// was asked.
	whole context.Context
}

// clientCommand makes a command of use and short whose body gets a connection.
func clientCommand(use, short, long string, args cobra.PositionalArgs, body func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	opts, at := defaultClientOptions(), apiFinder{}
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: args}
	declare(cmd, "", &opts)
	at.declare(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), opts.Timeout)
		defer cancel()
		c, found, err := at.dial(ctx, opts.API, "is zonecast running there? `zonecast up` starts it; --api HOST:PORT or ZONECAST_API says where, --store finds it")
		if err != nil {
			return err
		}
		opts.API = found
		s := &session{clientOptions: &opts, Client: c, in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), whole: cmd.Context()}
		s.color = opts.Color == "always" || opts.Color == "auto" && isTerminal(s.out) && os.Getenv("NO_COLOR") == ""
		if err = s.choose(ctx); err == nil {
			err = body(ctx, s, args)
		}
		err = explain(err)
		var late timeoutError
		if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &late) {
			err = timeoutError{hinted{fmt.Errorf("no answer from %s within %v", opts.API, opts.Timeout), "the same command again does no harm, with a longer --timeout if need be; whether a change was taken is not known"}}
		}
		return errors.Join(err, c.Close())
	}
	return cmd
}

// choose has the session speak of the dataset that is meant.
func (s *session) choose(ctx context.Context) error {
	if s.Dataset == "" {
		return nil
	}
	st, err := s.Control.Status(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, d := range st.Datasets {
		names = append(names, d.Name)
	}
	if !slices.Contains(names, s.Dataset) {
		return hinted{fmt.Errorf("dataset %q is not served here, expected one of %s", s.Dataset, strings.Join(names, ", ")), "--policy-datasets of the registry's process says which are"}
	}
	s.Control = s.Of(s.Dataset)
	return nil
}

// explain turns what the API refuses into an error with its hint.
func explain(err error) error {
	var r *answer.Refused
	if errors.As(err, &r) {
		return hinted{errors.New(r.Message), r.Hint}
	}
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// print writes v as JSON on one line, or what text writes.
func (s *session) print(v any, text func(w io.Writer)) error {
	if !s.JSON {
		text(s.out)
		return nil
	}
	return json.NewEncoder(s.out).Encode(v)
}

// Colours of a terminal (ECMA-48 SGR).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
)

func (s *session) paint(color, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// author is who asks, as the machine knows them.
func author() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// changeOptions are those of commands that change something.
type changeOptions struct {
	Wait   bool
	Author string
	Reason string
	Key    string // file of the operator's private key; empty: nothing is signed
}

func (o *changeOptions) declare(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.Wait, "wait", false, "return when every live host answers the change")
	o.declareAuthor(cmd)
}

func (o *changeOptions) declareAuthor(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.Author, "author", author(), "who makes the change")
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why, for those who ask later")
}

// declareSigned is declare of what an operator may have to sign.
func (o *changeOptions) declareSigned(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.Wait, "wait", false, "return when every live host answers the change")
	o.declareDoer(cmd)
}

// declareDoer is declareSigned of what no answer shows.
func (o *changeOptions) declareDoer(cmd *cobra.Command) {
	o.declareAuthor(cmd)
	cmd.Flags().StringVar(&o.Key, "key", os.Getenv("ZONECAST_KEY"), "file of the private key of the operator that --author names, which signs the change [ZONECAST_KEY]")
}

// arrival is a change's way, as JSON.
type arrival struct {
	Revision     int64        `json:"revision"`
	Changed      bool         `json:"changed"`
	Version      int64        `json:"version,omitempty"`
	Milliseconds float64      `json:"ms"`
	Hosts        int32        `json:"hosts,omitempty"`
	Missing      []missing    `json:"missing,omitempty"`
	Waited       bool         `json:"waited"`
	Unanswered   []unanswered `json:"unanswered,omitempty"`
}

type missing struct {
	Host    string `json:"host"`
	Version int64  `json:"version"`
}

// finish waits for a change when that is asked, prints what became of it, and
// says who is missing when time is up. what is the change in words. losses, unless
// nil, tells which of its records lost against others once hosts have it.
func (s *session) finish(ctx context.Context, o changeOptions, kind, what string, began time.Time, ch *answer.Change, losses func() ([]unanswered, error)) error {
	return s.finishAs(ctx, o, kind, what, began, ch, losses, func(a arrival) any { return a })
}

// finishAs is finish with another form of its JSON.
func (s *session) finishAs(ctx context.Context, o changeOptions, kind, what string, began time.Time, ch *answer.Change, losses func() ([]unanswered, error), view func(arrival) any) error {
	a := arrival{Revision: ch.Revision, Changed: ch.Changed, Waited: o.Wait}
	var late, trouble error
	if o.Wait {
		w, err := s.await(ctx, ch.Revision, kind)
		if err != nil {
			return err
		}
		a.Version, a.Hosts = w.Version, w.Hosts
		for _, m := range w.Missing {
			a.Missing = append(a.Missing, missing{m.Host, m.Version})
		}
		if !w.Done {
			late = timeoutError{hinted{
				fmt.Errorf("%s is stored, but not answered everywhere after %v: %s", what, time.Since(began).Round(time.Millisecond), s.lateness(w)),
				"`zonecast status` shows every host; nothing is lost: hosts that come back fetch it",
			}}
		}
	}
	a.Milliseconds = float64(time.Since(began).Microseconds()) / 1000
	if o.Wait && late == nil && losses != nil {
		a.Unanswered, trouble = losses()
	}
	err := s.print(view(a), func(w io.Writer) {
		switch {
		case late != nil || trouble != nil:
		case o.Wait:
			fmt.Fprintf(w, "%s: answered by %s as version %d after %.1f ms\n", what, s.paint(green, count(int(a.Hosts), "host")), a.Version, a.Milliseconds)
		case !a.Changed:
			fmt.Fprintf(w, "%s: nothing to change\n", what)
		case kind == "version":
			fmt.Fprintf(w, "%s: published as version %d (--wait returns when every host answers it)\n", what, a.Revision)
		default:
			fmt.Fprintf(w, "%s: stored at revision %d (--wait returns when every host answers it)\n", what, a.Revision)
		}
	})
	for _, u := range a.Unanswered {
		if s.JSON || trouble != nil { // said already, or by the error
			break
		}
		fmt.Fprintf(s.err, "%s %s %s %s is not answered: %s\n", s.paint(yellow, "note:"), u.Owner, u.Type, strings.Join(u.Rdata, ", "), u.Why)
	}
	return errors.Join(late, trouble, err)
}

func (s *session) lateness(w *controlapi.Arrival) string {
	if len(w.Missing) == 0 {
		return w.Stage
	}
	parts := make([]string, len(w.Missing))
	for i, m := range w.Missing {
		parts[i] = fmt.Sprintf("%s answers version %d", m.Host, m.Version)
	}
	return fmt.Sprintf("version %d is missing on %s: %s", w.Version, count(len(parts), "host"), strings.Join(parts, ", "))
}

// await asks until the change is everywhere or the command's time is nearly over.
func (s *session) await(ctx context.Context, revision int64, kind string) (*controlapi.Arrival, error) {
	const margin = 100 * time.Millisecond // to bring the answer home
	left := s.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline) - margin
	}
	return s.Control.Wait(ctx, revision, kind, s.Dataset, int32(max(left.Milliseconds(), 1)))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
