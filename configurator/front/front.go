package front

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/configurator"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/plan"
)

const (
	maxPaths    = 1000     // of a call of contents, of a Look
	maxContents = 16 << 20 // octets of a call of contents
	// MaxEdits is how many files a proposal by this API may change: less than a list of a
	// call may have. Larger ones are pushed.
	MaxEdits = 19_000
	// MaxContent bounds what all edits of a proposal have, in octets: less than a call may
	// have, so that what is too much is told.
	MaxContent = 12 << 20
	maxWait    = time.Minute
	maxPage    = 1000
	// maxFiles and maxPathOctets bound a page of a tree: a repository's own bounds of paths
	// are those of 100 MiB.
	maxFiles      = 10_000
	maxPathOctets = 4 << 20
)

// Front implements configapi.Configuration.
type Front struct {
	service *configurator.Service
	verify  Verify
}

// Verify checks who's signature of a text; nil, which is none, is for it to judge, too.
type Verify func(who string, text, signature []byte) error

// New makes a Front. verify is asked for what is no act of the review; that is asked by it.
func New(s *configurator.Service, verify Verify) *Front { return &Front{s, verify} }

// desk is the repository when there is a review, too.
func (f *Front) desk(ctx context.Context) (*configurator.Desk, error) {
	d, err := f.service.Desk(ctx)
	if err == nil && d.Review == nil {
		return nil, api.Refuse(api.Invalid, "propose, review and land there", "the configuration is that of another repository, which is followed here")
	}
	return d, err
}

// refuse makes what a client is told of an error: the code says what is to be done about it.
func refuse(err error) error {
	if err == nil || api.Code(err) != "" {
		return err
	}
	var (
		conflict  *review.ConflictError
		again     *review.AgainError
		missing   *review.NotApprovedError
		owner     *review.NotOwnerError
		changed   *review.PlanChangedError
		none      *review.NoProposalError
		finished  *review.FinishedError
		unsigned  *review.SignatureError
		bad       *review.SourceError
		rewritten *repo.Rewritten
		git       *repo.GitError
		file      *fs.PathError
	)
	say := func(code, hint string) error { return api.Refuse(code, hint, "%s", clip(err.Error())) }
	switch {
	case errors.As(err, &conflict):
		return say(api.Conflict, anew)
	case errors.As(err, &again):
		return say(api.Changed, fmt.Sprintf("look at it again: `zonecast config review %d`", again.Number))
	case errors.As(err, &missing):
		return say(api.Unapproved, fmt.Sprintf("`zonecast config review %d` shows whose approvals are missing", missing.Number))
	case errors.As(err, &owner):
		return say(api.Denied, "the file OWNERS says who owns what")
	case errors.As(err, &changed):
		return say(api.Changed, fmt.Sprintf("look at it again: `zonecast config review %d`", changed.Number))
	case errors.As(err, &none):
		return say(api.NotFound, "`zonecast config proposals` lists them")
	case errors.As(err, &finished):
		return say(api.Invalid, fmt.Sprintf("`zonecast config show %d` tells what happened to it", finished.Number))
	case errors.As(err, &unsigned):
		return say(api.Denied, signs)
	case errors.As(err, &bad):
		return say(api.Invalid, "")
	case errors.As(err, &rewritten):
		return say(api.Conflict, "`zonecast config accept` or `zonecast config restore`, once it is clear who moved it")
	case errors.Is(err, repo.ErrNoCommit):
		return say(api.Unavailable, "`zonecast config state` shows why")
	case errors.Is(err, repo.ErrMissing):
		return say(api.NotFound, "")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return say(api.Timeout, "")
	case errors.As(err, &git), errors.As(err, &file):
		return say(api.Unavailable, "ask again; `zonecast status` shows config/@landed and its error")
	}
	return say(api.Invalid, "")
}

const (
	anew  = "`zonecast config checkout` brings what has landed; make the change anew on top of it"
	signs = "--key FILE signs with an operator's key; the file of --control-operators says who may what"
	push  = "push the change into the repository and propose its commit"
)

// maxMessage bounds what is said of an error, in octets: a hundred mistakes of a tree are
// less.
const maxMessage = 64 << 10

func clip(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

func parseHash(what, s string) (repo.Hash, error) {
	if s == "" {
		return repo.Hash{}, nil
	}
	h, err := repo.ParseHash(s)
	if err != nil {
		return h, api.Refuse(api.Invalid, "", "%s is %.60q, expected a commit in 40 hexadecimal digits", what, s)
	}
	return h, nil
}

// known reads a commit that the repository must have; "" is none.
func known(ctx context.Context, r *repo.Repo, what, s string) (repo.Hash, error) {
	h, err := parseHash(what, s)
	if err != nil || h.IsZero() {
		return h, err
	}
	if _, err = r.Commit(ctx, h); errors.Is(err, repo.ErrMissing) {
		return h, api.Refuse(api.NotFound, "`zonecast config log` shows the commits of the branch", "%s %s is not in the repository", what, h)
	}
	return h, refuse(err)
}

func text(h repo.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

// Repository implements configapi.Configuration.
func (f *Front) Repository(ctx context.Context) (*configapi.Repository, error) {
	d, err := f.service.Desk(ctx)
	if err != nil {
		return nil, err
	}
	out := &configapi.Repository{ID: d.Repo.ID(), Branch: d.Repo.Branch(), Remote: f.service.Remote()}
	tip, err := d.Repo.Tip(ctx)
	var rewritten *repo.Rewritten
	if err == nil || errors.Is(err, repo.ErrNoCommit) {
		err = d.Repo.Trouble()
	}
	if errors.As(err, &rewritten) {
		out.Found = text(rewritten.Found)
	}
	if err != nil {
		out.Trouble = err.Error()
	}
	out.Tip = text(tip)
	landed, problem := f.service.Reached()
	out.Landed = text(landed)
	if problem != nil {
		out.Problem = problem.Error()
	}
	return out, nil
}

// tree gives a commit of the branch; "" is the tip.
func tree(ctx context.Context, d *configurator.Desk, commit string) (repo.Hash, *repo.Tree, error) {
	h, err := parseHash("commit", commit)
	if err != nil {
		return h, nil, err
	}
	tip, err := d.Repo.Tip(ctx)
	var rewritten *repo.Rewritten
	switch {
	case errors.Is(err, repo.ErrNoCommit) && h.IsZero():
		return h, d.Repo.Empty(), nil
	case err != nil && !errors.As(err, &rewritten):
		return h, nil, refuse(err)
	}
	if h.IsZero() {
		h = tip
	} else if h != tip {
		// Proposals of others, and what was thrown away, are not for everybody to read by number.
		ours, err := d.Repo.Ancestor(ctx, h, tip)
		if err != nil || !ours {
			return h, nil, api.Refuse(api.NotFound, "", "commit %s is not on branch %s", h.Short(), d.Repo.Branch())
		}
	}
	t, err := d.Repo.Tree(ctx, h)
	return h, t, refuse(err)
}

// Tree implements configapi.Configuration.
func (f *Front) Tree(ctx context.Context, commit, after string, limit int32) (*configapi.Tree, error) {
	d, err := f.service.Desk(ctx)
	if err != nil {
		return nil, err
	}
	if limit < 0 || limit > maxFiles {
		return nil, api.Refuse(api.Invalid, "", "limit is %d, expected 1 to %d, or 0 for as many", limit, maxFiles)
	}
	h, t, err := tree(ctx, d, commit)
	if err != nil {
		return nil, err
	}
	most, octets := cmp.Or(int(limit), maxFiles), 0
	out := &configapi.Tree{Commit: text(h), Files: []*configapi.File{}}
	t.List(after, func(path string, file repo.File) bool {
		if n := len(out.Files); n == most || octets > maxPathOctets {
			out.Rest = out.Files[n-1].Path
			return false
		}
		octets += len(path)
		out.Files = append(out.Files, &configapi.File{Path: path, Hash: file.Hash.String(), Size: file.Size})
		return true
	})
	return out, nil
}

// Contents implements configapi.Configuration.
func (f *Front) Contents(ctx context.Context, commit string, paths []string) ([]*configapi.Edit, error) {
	d, err := f.service.Desk(ctx)
	if err != nil {
		return nil, err
	}
	if len(paths) > maxPaths {
		return nil, api.Refuse(api.TooMany, "ask for them in several calls", "%d paths, at most %d", len(paths), maxPaths)
	}
	_, t, err := tree(ctx, d, commit)
	if err != nil {
		return nil, err
	}
	out, size := []*configapi.Edit{}, 0
	for _, p := range paths {
		b, err := t.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
			continue
		}
		if err != nil {
			return nil, refuse(err)
		}
		if size += len(b); size > maxContents && len(out) > 0 {
			break // the rest in the next call
		}
		out = append(out, &configapi.Edit{Path: p, Content: b})
	}
	return out, nil
}

// edits gives the files of a draft.
func edits(all []*configapi.Edit) (map[string][]byte, error) {
	if len(all) > MaxEdits {
		return nil, api.Refuse(api.TooMany, push, "%d files change, at most %d", len(all), MaxEdits)
	}
	files := map[string][]byte{}
	size := 0
	for _, e := range all {
		if size += len(e.Content); size > MaxContent {
			return nil, api.Refuse(api.TooMany, push, "the files that change have more than %d octets", MaxContent)
		}
		if _, twice := files[e.Path]; twice {
			return nil, api.Refuse(api.Invalid, "", "%.200q is there twice", e.Path)
		}
		if e.Remove {
			files[e.Path] = nil
		} else {
			files[e.Path] = append([]byte{}, e.Content...) // nil would remove it
		}
	}
	return files, nil
}

// Plan implements configapi.Configuration.
func (f *Front) Plan(ctx context.Context, base string, changes []*configapi.Edit) (*configapi.Plan, error) {
	d, err := f.service.Desk(ctx)
	if err != nil {
		return nil, err
	}
	files, err := edits(changes)
	if err != nil {
		return nil, err
	}
	tip, onto, err := tree(ctx, d, "")
	if err != nil {
		return nil, err
	}
	from, of, err := tree(ctx, d, base)
	if err != nil {
		return nil, err
	}
	result, err := of.With(files)
	if err != nil {
		return nil, refuse(err)
	}
	if from != tip {
		var conflict *repo.Conflict
		if result, err = d.Repo.MergeTree(ctx, from, tip, result); errors.As(err, &conflict) {
			err = review.Explain(ctx, d.Repo, "the change", conflict)
		}
		if err != nil {
			return nil, refuse(err)
		}
	}
	if err := review.CheckPolicy(result, onto.Changed(result)); err != nil {
		return nil, refuse(err)
	}
	p, err := d.Plan(ctx, onto, result)
	if err != nil {
		return nil, refuse(err)
	}
	return planOf(p)
}

func planOf(p *plan.Plan) (*configapi.Plan, error) {
	b, err := json.Marshal(p)
	var plain, marked strings.Builder
	if err = errors.Join(err, p.Text(&plain), p.Markdown(&marked)); err != nil {
		return nil, err
	}
	return &configapi.Plan{Digest: p.Digest, Empty: p.Empty(), JSON: string(b), Text: plain.String(), Markdown: marked.String()}, nil
}

// actOf gives nobody's act for none, which the review refuses.
func actOf(a *configapi.Act) review.Act {
	if a == nil {
		return review.Act{}
	}
	out := review.Act{Who: a.Who, Why: a.Why, Signature: a.Signature}
	if a.AtMs != 0 {
		out.At = time.UnixMilli(a.AtMs)
	}
	if len(out.Signature) == 0 {
		out.Signature = nil
	}
	return out
}

func draftOf(ctx context.Context, r *repo.Repo, title string, a *configapi.Act, base string, changes []*configapi.Edit, commit string) (d review.Draft, err error) {
	if d.Base, err = known(ctx, r, "base", base); err != nil {
		return d, err
	}
	if d.Commit, err = known(ctx, r, "commit", commit); err != nil {
		return d, err
	}
	d.Title, d.Reason = title, actOf(a).Why
	d.Files, err = edits(changes)
	if !d.Commit.IsZero() && len(d.Files) == 0 {
		d.Files = nil
	}
	return d, err
}

// Propose implements configapi.Configuration. What its author has proposed already, and is
// open, is not proposed again: the answer may have been lost.
func (f *Front) Propose(ctx context.Context, a *configapi.Act, title, base string, changes []*configapi.Edit, commit string) (*configapi.Proposal, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	draft, err := draftOf(ctx, d.Repo, title, a, base, changes, commit)
	if err != nil {
		return nil, err
	}
	const recent = 20
	list, _, err := d.Review.List(ctx, 0, recent, review.Open)
	if err != nil {
		return nil, refuse(err)
	}
	for _, s := range list {
		if s.Author != actOf(a).Who || s.Title != title {
			continue
		}
		p, err := d.Review.Show(ctx, s.Number)
		if err == nil && p.Reason == draft.Reason && len(p.Events) > 0 && p.Events[0].Content == draft.Content() {
			return proposalOf(p), nil
		}
	}
	p, err := d.Review.Propose(ctx, actOf(a), draft)
	return answer(p, err)
}

func answer(p *review.Proposal, err error) (*configapi.Proposal, error) {
	if err != nil {
		return nil, refuse(err)
	}
	return proposalOf(p), nil
}

// Revise implements configapi.Configuration.
func (f *Front) Revise(ctx context.Context, number int32, a *configapi.Act, base string, changes []*configapi.Edit, commit string) (*configapi.Proposal, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	draft, err := draftOf(ctx, d.Repo, "", a, base, changes, commit)
	if err != nil {
		return nil, err
	}
	p, err := d.Review.Show(ctx, int(number))
	if err != nil {
		return nil, refuse(err)
	}
	draft.Title = p.Title
	p, err = d.Review.Revise(ctx, int(number), actOf(a), draft)
	return answer(p, err)
}

// Review implements configapi.Configuration.
func (f *Front) Review(ctx context.Context, number int32) (*configapi.Look, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	l, err := d.Review.Examine(ctx, int(number))
	if err != nil {
		return nil, refuse(err)
	}
	out := &configapi.Look{
		Proposal: proposalOf(l.Proposal), Tip: text(l.Tip), Changed: l.Changed[:min(len(l.Changed), maxPaths)], More: int32(max(len(l.Changed)-maxPaths, 0)),
		Plan: &configapi.Plan{}, Requirements: []*configapi.Requirement{}, VoidApprovals: []string{},
	}
	for _, q := range l.Requirements {
		out.Requirements = append(out.Requirements, &configapi.Requirement{Text: q.String(), Need: int32(q.Need), By: append([]string{}, q.By...), Met: q.Met()})
	}
	for _, v := range l.Void {
		out.VoidApprovals = append(out.VoidApprovals, fmt.Sprintf("the approval of %s at %s does not count: %s", v.Approval.Who, v.Approval.At.UTC().Format(time.RFC3339), v.Why))
	}
	if l.Problem != nil {
		out.Problem = l.Problem.Error()
		return out, nil
	}
	if l.Proposal.State == review.Landed {
		return out, nil
	}
	base, err := d.Repo.Tree(ctx, l.Tip)
	if err != nil {
		return nil, refuse(err)
	}
	p, err := d.Plan(ctx, base, l.Result())
	if err != nil {
		return nil, refuse(err)
	}
	out.Plan, err = planOf(p)
	return out, err
}

// Comment implements configapi.Configuration.
func (f *Front) Comment(ctx context.Context, number int32, a *configapi.Act) (*configapi.Proposal, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	p, err := d.Review.Comment(ctx, int(number), actOf(a))
	return answer(p, err)
}

// Approve implements configapi.Configuration.
func (f *Front) Approve(ctx context.Context, number int32, a *configapi.Act, seen string) (*configapi.Proposal, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	p, err := d.Review.Approve(ctx, int(number), actOf(a), seen)
	return answer(p, err)
}

// Reject implements configapi.Configuration.
func (f *Front) Reject(ctx context.Context, number int32, a *configapi.Act) (*configapi.Proposal, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	p, err := d.Review.Reject(ctx, int(number), actOf(a))
	return answer(p, err)
}

// Land implements configapi.Configuration. What has landed already is given again: the
// answer may have been lost.
func (f *Front) Land(ctx context.Context, number int32, a *configapi.Act) (*configapi.Landing, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	l, err := d.Review.Land(ctx, int(number), actOf(a))
	if err != nil {
		if p, show := d.Review.Show(ctx, int(number)); show == nil && p.State == review.Landed && landedBy(p, actOf(a).Who) {
			if log, _, err := d.Review.Log(ctx, p.Landed, "", 1); err == nil && len(log) == 1 {
				return landingOf(&log[0]), nil
			}
		}
		return nil, refuse(err)
	}
	return landingOf(l), nil
}

// landedBy tells whether somebody landed a proposal.
func landedBy(p *review.Proposal, who string) bool {
	return slices.ContainsFunc(p.Events, func(e review.Event) bool { return e.Do == review.Land && e.Who == who })
}

// Revert implements configapi.Configuration.
func (f *Front) Revert(ctx context.Context, number int32, a *configapi.Act) (*configapi.Proposal, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	p, err := d.Review.Revert(ctx, int(number), actOf(a))
	return answer(p, err)
}

// Show implements configapi.Configuration.
func (f *Front) Show(ctx context.Context, number int32) (*configapi.Proposal, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	p, err := d.Review.Show(ctx, int(number))
	return answer(p, err)
}

// Diff implements configapi.Configuration.
func (f *Front) Diff(ctx context.Context, number int32) (*configapi.Diff, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	t, cut, err := d.Review.Diff(ctx, int(number))
	if err != nil {
		return nil, refuse(err)
	}
	return &configapi.Diff{Text: t, Cut: cut}, nil
}

// page is how many entries a page has: limit, or maxPage when that is 0.
func page(limit int32) (int, error) {
	switch {
	case limit == 0:
		return maxPage, nil
	case limit < 0 || limit > maxPage:
		return 0, api.Refuse(api.Invalid, "", "limit is %d, expected 1 to %d, or 0 for as many", limit, maxPage)
	}
	return int(limit), nil
}

// states are those that a proposal may have.
var states = []review.State{review.Open, review.Approved, review.Again, review.Landed, review.Rejected, review.Expired}

// Proposals implements configapi.Configuration.
func (f *Front) Proposals(ctx context.Context, below, limit int32, only []string) (*configapi.ProposalPage, error) {
	d, err := f.desk(ctx)
	if err != nil {
		return nil, err
	}
	var in []review.State
	for _, s := range only {
		if !slices.Contains(states, review.State(s)) {
			return nil, api.Refuse(api.Invalid, "", "state is %.40q, expected one of %v", s, states)
		}
		in = append(in, review.State(s))
	}
	n, err := page(limit)
	if err != nil {
		return nil, err
	}
	list, next, err := d.Review.List(ctx, int(below), n, in...)
	if err != nil {
		return nil, refuse(err)
	}
	out := &configapi.ProposalPage{Proposals: []*configapi.Proposal{}, Rest: int32(next)}
	for _, s := range list {
		out.Proposals = append(out.Proposals, &configapi.Proposal{
			Number: int32(s.Number), Title: s.Title, Author: s.Author, State: string(s.State), Why: s.Why,
			CreatedMs: s.Created.UnixMilli(), ChangedMs: s.Changed.UnixMilli(), Events: []*configapi.Event{},
		})
	}
	return out, nil
}

// Log implements configapi.Configuration.
func (f *Front) Log(ctx context.Context, start, path string, limit int32) (*configapi.LogPage, error) {
	d, err := f.service.Desk(ctx)
	if err != nil {
		return nil, err
	}
	out := &configapi.LogPage{Landings: []*configapi.Landing{}}
	n, err := page(limit)
	if err != nil {
		return nil, err
	}
	h, err := parseHash("start", start)
	if err != nil {
		return nil, err
	}
	if !h.IsZero() {
		if _, _, err := tree(ctx, d, start); err != nil {
			return nil, err
		}
	}
	if d.Review == nil {
		if h.IsZero() {
			if h, _, err = tree(ctx, d, ""); err != nil {
				return nil, err
			}
		}
		log, next, err := d.Repo.Log(ctx, h, path, n)
		if err != nil {
			return nil, refuse(err)
		}
		for _, c := range log {
			title, _, _ := strings.Cut(c.Message, "\n")
			out.Landings = append(out.Landings, &configapi.Landing{Commit: c.Hash.String(), Title: title, Author: c.Author, By: c.Committer, TimeMs: c.When.UnixMilli(), Approved: []string{}})
		}
		out.Rest = text(next)
		return out, nil
	}
	log, next, err := d.Review.Log(ctx, h, path, n)
	if err != nil {
		return nil, refuse(err)
	}
	for i := range log {
		out.Landings = append(out.Landings, landingOf(&log[i]))
	}
	out.Rest = text(next)
	return out, nil
}

// Landed implements configapi.Configuration.
func (f *Front) Landed(ctx context.Context, commit string, timeoutMs int32) (int64, error) {
	if _, err := f.service.Desk(ctx); err != nil {
		return 0, err
	}
	h, err := parseHash("commit", commit)
	if err == nil && h.IsZero() {
		err = api.Refuse(api.Invalid, "", "commit is missing, expected one of the branch")
	}
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(time.Duration(max(timeoutMs, 0))*time.Millisecond, maxWait))
	defer cancel()
	rev, err := f.service.Landed(ctx, h)
	if errors.Is(err, context.DeadlineExceeded) {
		return 0, api.Refuse(api.Timeout, "`zonecast status` shows config/@landed", "commit %s is not in the store after %d ms", h.Short(), timeoutMs)
	}
	return rev, refuse(err)
}

// Accept implements configapi.Configuration.
func (f *Front) Accept(ctx context.Context, found string, a *configapi.Act) (*configapi.Repository, error) {
	return f.settle(ctx, "accept", found, actOf(a))
}

// Restore implements configapi.Configuration.
func (f *Front) Restore(ctx context.Context, a *configapi.Act, found string) (*configapi.Repository, error) {
	return f.settle(ctx, "restore", found, actOf(a))
}

// maxWhy bounds why a branch was settled, in octets, as that of an act is.
const maxWhy = 16 << 10

// settle does something about a branch that was moved to found.
func (f *Front) settle(ctx context.Context, what, found string, a review.Act) (*configapi.Repository, error) {
	d, err := f.service.Desk(ctx)
	if err != nil {
		return nil, err
	}
	if err := review.CheckName(a.Who); err != nil {
		return nil, refuse(err)
	}
	if a.Why == "" || len(a.Why) > maxWhy || !utf8.ValidString(a.Why) {
		return nil, api.Refuse(api.Invalid, "--reason says it to those who ask later", "why has %d octets, expected 1 to %d of UTF-8", len(a.Why), maxWhy)
	}
	h, err := parseHash("found", found)
	if err != nil {
		return nil, err
	}
	moved, err := rewritten(ctx, d.Repo)
	switch {
	case err != nil:
		return nil, refuse(err)
	case moved == nil:
		return nil, api.Refuse(api.Invalid, "", "branch %s: nobody moved it: there is nothing to %s", d.Repo.Branch(), what)
	case moved.Found != h:
		return nil, api.Refuse(api.Changed, "`zonecast config state` shows where it is", "%s is at %q, and not at %.60q: look again", moved.Branch, text(moved.Found), found)
	}
	if f.verify != nil {
		if age := time.Since(a.At); len(a.Signature) > 0 && (age > operator.Skew || age < -operator.Skew) {
			return nil, api.Refuse(api.Denied, "set the clock", "signature: was made at %s, expected within %v of now", a.At.UTC().Format(time.RFC3339), operator.Skew)
		}
		if err := f.verify(a.Who, review.BranchStatement(d.Repo.ID(), what, moved.Known, h, a), a.Signature); err != nil {
			return nil, refuse(&review.SignatureError{Do: review.Deed(what), Who: a.Who, Err: err})
		}
	}
	switch {
	case what == "accept":
		err = d.Repo.Accept(ctx, h, a.Who, a.Why)
	case d.Repo.Follows():
		return nil, api.Refuse(api.Invalid, "push it there by force", "%s is somebody else's repository: restore %s there", moved.Branch, moved.Known.Short())
	default:
		err = d.Repo.Restore(ctx, a.Who, a.Why)
	}
	if err != nil {
		return nil, refuse(err)
	}
	return f.Repository(ctx)
}

// rewritten says where somebody moved the branch; nil if nobody did.
func rewritten(ctx context.Context, r *repo.Repo) (moved *repo.Rewritten, err error) {
	if _, err = r.Tip(ctx); err == nil {
		err = r.Trouble()
		if !errors.As(err, &moved) { // other trouble is none of the branch's
			return nil, nil
		}
		return moved, nil
	}
	if errors.As(err, &moved) {
		return moved, nil
	}
	return nil, err
}

func proposalOf(p *review.Proposal) *configapi.Proposal {
	out := &configapi.Proposal{
		Number: int32(p.Number), Title: p.Title, Reason: p.Reason, Author: p.Author, CreatedMs: p.Created.UnixMilli(), ChangedMs: p.Created.UnixMilli(),
		State: string(p.State), Why: p.Why, Base: text(p.Base), Head: text(p.Head), Reverts: int32(p.Reverts), Landed: text(p.Landed), Events: []*configapi.Event{},
	}
	for _, e := range p.Events {
		out.ChangedMs = e.At.UnixMilli()
		out.Events = append(out.Events, &configapi.Event{AtMs: e.At.UnixMilli(), Who: e.Who, What: string(e.Do), Why: e.Why, Head: text(e.Head), Plan: e.Plan})
	}
	return out
}

func landingOf(l *review.Landing) *configapi.Landing {
	return &configapi.Landing{
		Commit: l.Commit.String(), Number: int32(l.Number), Title: l.Title, Author: l.Author, By: l.By, TimeMs: l.When.UnixMilli(),
		Approved: append([]string{}, l.Approved...), Reverts: int32(l.Reverts),
	}
}
