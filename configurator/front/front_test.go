package front_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/configurator"
	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/front"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/internal/sandbox"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/rules/script"
)

func TestMain(m *testing.M) {
	sandbox.Main(map[string]func() (sandbox.Handler, error){compile.SandboxName: compile.SandboxHandler, script.SandboxName: script.SandboxHandler})
	os.Exit(m.Run())
}

// desk is a Front over a configurator that runs.
type desk struct {
	*front.Front
	t       *testing.T
	service *configurator.Service
	dir     string
}

func newDesk(t *testing.T, verify front.Verify) *desk {
	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	cfg := configurator.DefaultConfig()
	cfg.Dir = filepath.Join(t.TempDir(), "config.git")
	s, err := configurator.New(cfg, configurator.Deps{
		Rules: rules.DefaultParams(),
		Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Verify: verify,
		Consider: func(_ context.Context, changes []plan.Change, configs []plan.Config, _ bool) (*plan.Plan, error) {
			var moves []plan.Move
			for _, c := range changes {
				moves = append(moves, plan.Moves(c)...)
			}
			return &plan.Plan{Configurations: configs, Come: len(moves), Digest: plan.DigestOf(configs, moves)}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return &desk{front.New(s, verify), t, s, cfg.Dir}
}

func act(who, why string) *configapi.Act { return &configapi.Act{Who: who, Why: why} }

func zone(apex, address string) []byte {
	return fmt.Appendf(nil, `load("//zonecast.star", "a", "ns", "soa", "zone")

export(zone(
    %q,
    soa = soa("ns1", "hostmaster", serial = 1),
    records = [
        ns("@", "ns1"),
        a("ns1", %q),
    ],
))
`, apex, address)
}

func put(path string, content []byte) []*configapi.Edit {
	return []*configapi.Edit{{Path: path, Content: content}}
}

// land brings a change in force.
func (d *desk) land(who, title string, edits []*configapi.Edit) *configapi.Landing {
	d.t.Helper()
	p, err := d.Propose(d.t.Context(), act(who, "because"), title, "", edits, "")
	if err != nil {
		d.t.Fatal(err)
	}
	l, err := d.Review(d.t.Context(), p.Number)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.Approve(d.t.Context(), p.Number, act("zoe", ""), l.Plan.Digest); err != nil {
		d.t.Fatal(err)
	}
	landing, err := d.Land(d.t.Context(), p.Number, act(who, ""))
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.Landed(d.t.Context(), landing.Commit, 20_000); err != nil {
		d.t.Fatal(err)
	}
	return landing
}

// refused checks the code of an error and that it says all of what is wanted.
func (d *desk) refused(err error, code string, says ...string) {
	d.t.Helper()
	if api.Code(err) != code {
		d.t.Errorf("error %v has code %q, want %q", err, api.Code(err), code)
		return
	}
	for _, s := range says {
		if !strings.Contains(api.Message(err)+" | "+api.Hint(err), s) {
			d.t.Errorf("%s | %s, want it to say %q", api.Message(err), api.Hint(err), s)
		}
	}
}

// A change goes its way; what is asked twice is done once.
func TestWayOfAChange(t *testing.T) {
	d := newDesk(t, nil)
	ctx := t.Context()
	edits := put("zones/example.net.star", zone("example.net", "192.0.2.1"))
	p, err := d.Plan(ctx, "", edits)
	if err != nil || p.Empty || !strings.Contains(p.Text, "+ zones/example.net (zonecast.Zone)") || !strings.Contains(p.Markdown, "<details") || !strings.HasPrefix(p.JSON, "{") {
		t.Fatalf("plan %+v, %v", p, err)
	}
	one, err := d.Propose(ctx, act("alice", "because"), "Add it", "", edits, "")
	if err != nil {
		t.Fatal(err)
	}
	two, err := d.Propose(ctx, act("alice", "because"), "Add it", "", edits, "")
	if err != nil || two.Number != one.Number {
		t.Errorf("proposed again: %+v, %v", two, err)
	}
	_, err = d.Land(ctx, one.Number, act("alice", ""))
	d.refused(err, api.Unapproved, "proposal 1: is not approved", "0 of 1 approvals of anybody", "`zonecast config review 1` shows whose approvals are missing")
	_, err = d.Approve(ctx, one.Number, act("bob", ""), strings.Repeat("0", 64))
	d.refused(err, api.Changed, "proposal 1: its plan is ", "look at it again: `zonecast config review 1`")
	_, err = d.Approve(ctx, one.Number, act("alice", ""), p.Digest)
	d.refused(err, api.Invalid, "is alice's own")
	if l, err := d.Review(ctx, one.Number); err != nil || l.Plan.Digest != p.Digest || len(l.Requirements) != 1 || l.Requirements[0].Met || len(l.Changed) != 1 {
		t.Fatalf("look %+v, %v", l, err)
	}
	if _, err := d.Approve(ctx, one.Number, act("bob", ""), p.Digest); err != nil {
		t.Fatal(err)
	}
	l, err := d.Land(ctx, one.Number, act("alice", ""))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.Land(ctx, one.Number, act("alice", "")); err != nil || again.Commit != l.Commit {
		t.Errorf("landed again: %+v, %v", again, err)
	}
	_, err = d.Land(ctx, one.Number, act("carol", ""))
	d.refused(err, api.Invalid, "proposal 1: is landed")
	if _, err := d.Landed(ctx, l.Commit, 20_000); err != nil {
		t.Fatal(err)
	}
	tree, err := d.Tree(ctx, "", "", 0)
	if err != nil || tree.Commit != l.Commit || len(tree.Files) != 1 || tree.Files[0].Path != "zones/example.net.star" {
		t.Fatalf("tree %+v, %v", tree, err)
	}
	files, err := d.Contents(ctx, l.Commit, []string{"../../etc/passwd", "zones/example.net.star", "none", "/etc/passwd", "zones"})
	if err != nil || len(files) != 1 || string(files[0].Content) != string(edits[0].Content) {
		t.Fatalf("contents %v, %v", files, err)
	}
	if p, err := d.Plan(ctx, l.Commit, []*configapi.Edit{}); err != nil || !p.Empty {
		t.Errorf("plan of nothing: %+v, %v", p, err)
	}
	show, err := d.Show(ctx, one.Number)
	if err != nil || show.State != "landed" || len(show.Events) != 3 || show.Landed != l.Commit {
		t.Errorf("show %+v, %v", show, err)
	}
	if diff, err := d.Diff(ctx, one.Number); err != nil || !strings.Contains(diff.Text, "+        ns(\"@\", \"ns1\"),") {
		t.Errorf("diff %+v, %v", diff, err)
	}
	log, err := d.Log(ctx, "", "zones", 10)
	if err != nil || len(log.Landings) != 1 || log.Landings[0].Number != one.Number || log.Landings[0].Approved[0] != "bob" {
		t.Errorf("log %+v, %v", log, err)
	}
	r, err := d.Repository(ctx)
	if err != nil || r.Tip != l.Commit || r.Landed != l.Commit || r.Trouble+r.Problem+r.Found != "" || r.Branch != "main" {
		t.Errorf("repository %+v, %v", r, err)
	}
	back, err := d.Revert(ctx, one.Number, act("bob", "no"))
	if err != nil || back.Reverts != one.Number {
		t.Errorf("revert %+v, %v", back, err)
	}
	if page, err := d.Proposals(ctx, 0, 1, nil); err != nil || len(page.Proposals) != 1 || page.Rest != back.Number {
		t.Errorf("proposals %+v, %v", page, err)
	}
	if p, err := d.Reject(ctx, back.Number, act("bob", "a mistake")); err != nil || p.State != "rejected" {
		t.Errorf("reject %+v, %v", p, err)
	}
}

// Two people change things at once: different ones never meet, and a true conflict names
// both.
func TestTwoAtOnce(t *testing.T) {
	d := newDesk(t, nil)
	ctx := t.Context()
	base := d.land("alice", "First", put("zones/example.net.star", zone("example.net", "192.0.2.1"))).Commit
	mine := put("zones/example.net.star", []byte(strings.Replace(string(zone("example.net", "192.0.2.1")), "serial = 1", "serial = 2", 1)))
	p, err := d.Propose(ctx, act("alice", "because"), "Serial", base, mine, "")
	if err != nil {
		t.Fatal(err)
	}
	d.land("bob", "Move it", put("zones/example.net.star", zone("example.net", "192.0.2.2")))
	l, err := d.Review(ctx, p.Number)
	if err != nil || l.Problem != "" {
		t.Fatalf("look %+v, %v", l, err)
	}
	// A plan of old files is one on top of what has landed since.
	if q, err := d.Plan(ctx, base, mine); err != nil || q.Digest != l.Plan.Digest {
		t.Errorf("plan %v, %v, want digest %s", q, err, l.Plan.Digest)
	}
	theirs := put("zones/example.net.star", zone("example.net", "192.0.2.3"))
	_, err = d.Plan(ctx, base, theirs)
	d.refused(err, api.Conflict, "the change conflicts with proposal 3 (\"Move it\", bob, landed as ", "zones/example.net.star line 8: both change it; make the change anew on top of ", "`zonecast config checkout`")
	_, err = d.Propose(ctx, act("alice", "because"), "Clash", base, theirs, "")
	d.refused(err, api.Conflict, "zones/example.net.star", "both change it", `"Move it", bob`)
}

func TestRefusals(t *testing.T) {
	d := newDesk(t, nil)
	ctx := t.Context()
	d.land("alice", "First", put("zones/example.net.star", zone("example.net", "192.0.2.1")))
	open, err := d.Propose(ctx, act("alice", "because"), "Secret", "", put("zones/example.org.star", zone("example.org", "192.0.2.1")), "")
	if err != nil {
		t.Fatal(err)
	}
	long := make([]*configapi.Edit, front.MaxEdits+1)
	for i := range long {
		long[i] = &configapi.Edit{Path: fmt.Sprint("x", i)}
	}
	propose := func(edits []*configapi.Edit, base, commit string) error {
		_, err := d.Propose(ctx, act("alice", "because"), "Title", base, edits, commit)
		return err
	}
	for _, tt := range []struct {
		what string
		do   func() error
		code string
		says []string
	}{
		{"a mistake", func() error {
			return propose(put("zones/x.star", []byte("export(nonsense)\n")), "", "")
		}, api.Invalid, []string{"zones/x.star:1:8: undefined: nonsense"}},
		{"a path out of it", func() error { return propose(put("../x.star", nil), "", "") }, api.Invalid, []string{"../x.star"}},
		{"git's own files", func() error { return propose(put(".git/hooks/x", []byte("x")), "", "") }, api.Invalid, []string{".git"}},
		{"a file twice", func() error { return propose(append(put("a", nil), put("a", nil)...), "", "") }, api.Invalid, []string{`"a" is there twice`}},
		{"too many", func() error { return propose(long, "", "") }, api.TooMany, []string{"19001 files change, at most 19000", "push the change"}},
		{"no hash", func() error { return propose(put("a", nil), "HEAD", "") }, api.Invalid, []string{`base is "HEAD", expected a commit in 40 hexadecimal digits`}},
		{"a base that is not there", func() error { return propose(put("a", nil), strings.Repeat("a", 40), "") }, api.NotFound, []string{"base aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa is not in the repository"}},
		{"a commit that is not there", func() error { return propose(nil, "", strings.Repeat("a", 40)) }, api.NotFound, []string{"commit aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa is not in the repository"}},
		{"a base that is on no branch", func() error { return propose(put("a", nil), open.Head, "") }, api.Invalid, []string{"is not on branch main"}},
		{"a commit and files", func() error { return propose(put("a", nil), "", open.Head) }, api.Invalid, []string{"a commit or files are proposed, not both"}},
		{"too much", func() error {
			return propose(append(put("a", make([]byte, front.MaxContent)), put("b", []byte("x"))...), "", "")
		}, api.TooMany, []string{"the files that change have more than 12582912 octets", "push the change"}},
		{"what loops", func() error {
			return propose(put("a.star", []byte("def f():\n    for i in range(1000000000):\n        pass\nf()\n")), "", "")
		}, api.Invalid, []string{"a.star:2:", "steps: does it loop?"}},
		{"a mistake in OWNERS", func() error { _, err := d.Plan(ctx, "", put("OWNERS", []byte("path nonsense\n"))); return err }, api.Invalid, []string{"OWNERS:1: "}},
		{"nobody", func() error { _, err := d.Propose(ctx, nil, "Title", "", put("a", []byte("x")), ""); return err }, api.Invalid, []string{"reason: is missing"}},
		{"nobody's landing", func() error { _, err := d.Land(ctx, open.Number, nil); return err }, api.Unapproved, []string{"is not approved"}},
		{"nobody's comment", func() error { _, err := d.Comment(ctx, open.Number, nil); return err }, api.Invalid, []string{"comment: is missing"}},
		{"nobody's approval", func() error { _, err := d.Approve(ctx, open.Number, nil, "x"); return err }, api.Changed, []string{`and not "x"`}},
		{"nobody's restoration", func() error { _, err := d.Restore(ctx, nil, ""); return err }, api.Invalid, []string{`operator ""`}},
		{"a state that is none", func() error { _, err := d.Proposals(ctx, 0, 0, []string{"lost"}); return err }, api.Invalid, []string{`state is "lost", expected one of [open approved again landed rejected expired]`}},
		{"a long page", func() error { _, err := d.Proposals(ctx, 0, 1001, nil); return err }, api.Invalid, []string{"limit is 1001, expected 1 to 1000"}},
		{"a negative page", func() error { _, err := d.Log(ctx, "", "", -1); return err }, api.Invalid, []string{"limit is -1, expected 1 to 1000"}},
		{"a path out of the log", func() error { _, err := d.Log(ctx, "", "../x", 1); return err }, api.Invalid, []string{`path "../x": name "..": not allowed`}},
		{"a long page of files", func() error { _, err := d.Tree(ctx, "", "", 10_001); return err }, api.Invalid, []string{"limit is 10001, expected 1 to 10000"}},
		{"no commit that could be in force", func() error { _, err := d.Landed(ctx, "", 50); return err }, api.Invalid, []string{"commit is missing, expected one of the branch"}},
		{"a look at what has landed", func() error { _, err := d.Review(ctx, 1); return err }, api.Invalid, []string{"proposal 1: is landed | `zonecast config show 1` tells what happened to it"}},
		{"an approval of what has landed", func() error { _, err := d.Approve(ctx, 1, act("zoe", ""), "x"); return err }, api.Invalid, []string{"proposal 1: is landed | `zonecast config show 1` tells"}},
		{"a branch that nobody moved", func() error { _, err := d.Accept(ctx, open.Head, act("alice", "so")); return err }, api.Invalid, []string{"branch main: nobody moved it: there is nothing to accept"}},
		{"a name that is none", func() error {
			_, err := d.Propose(ctx, act("al ice\n", "because"), "Title", "", put("a", []byte("x")), "")
			return err
		}, api.Invalid, []string{"operator"}},
		{"no proposal", func() error { _, err := d.Show(ctx, 77); return err }, api.NotFound, []string{"proposal 77: there is none"}},
		{"a commit that is on no branch", func() error { _, err := d.Tree(ctx, open.Head, "", 0); return err }, api.NotFound, []string{"is not on branch main"}},
		{"too many contents", func() error { _, err := d.Contents(ctx, "", make([]string, 1001)); return err }, api.TooMany, []string{"1001 paths, at most 1000"}},
		{"a log from elsewhere", func() error { _, err := d.Log(ctx, open.Head, "", 1); return err }, api.NotFound, []string{"is not on branch main"}},
		{"what is not landed", func() error { _, err := d.Landed(ctx, open.Head, 50); return err }, api.Timeout, []string{"is not in the store after 50 ms"}},
	} {
		t.Run(tt.what, func(t *testing.T) { (&desk{t: t}).refused(tt.do(), tt.code, tt.says...) })
	}
	s, err := configurator.New(configurator.DefaultConfig(), configurator.Deps{Metrics: prometheus.NewRegistry(), Rules: rules.DefaultParams()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = front.New(s, nil).Repository(ctx)
	d.refused(err, api.NotFound, "this server keeps no configuration", "--configurator-dir DIR")
}

// A path that means harm is refused, in words that do none, and nothing of it is written.
func TestHostilePaths(t *testing.T) {
	d := newDesk(t, nil)
	d.land("alice", "First", put("a.txt", []byte("x")))
	before := git(t, d.dir, "count-objects", "-v")
	for _, path := range []string{
		"", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "..", "a/./b", ".git/config", "a/.GIT/hooks/post-update", "a\x00b", "a\nb", "a\x1b[31mb",
		"\xff", "a\u202eb", "a\u200bb", `a\b`, strings.Repeat("x", 256), strings.Repeat("d/", 40) + "x", strings.Repeat("abcdefgh/", 120) + "x",
	} {
		_, err := d.Plan(t.Context(), "", put(path, []byte("x")))
		_, err2 := d.Propose(t.Context(), act("alice", "because"), "Title", "", put(path, []byte("x")), "")
		for _, err := range []error{err, err2} {
			if api.Code(err) != api.Invalid || strings.ContainsAny(api.Message(err), "\x00\x1b\n\u202e") || !utf8.ValidString(api.Message(err)) {
				t.Errorf("%q: %q: %q", path, api.Code(err), api.Message(err))
			}
		}
	}
	if after := git(t, d.dir, "count-objects", "-v"); after != before {
		t.Errorf("what was refused is in the repository:\n%s\nbefore:\n%s", after, before)
	}
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A branch that somebody moved is told, and settled once by who may: what is signed is good
// for this move, and for five minutes.
func TestRewritten(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := operator.Line("alice", key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	operators, err := operator.Parse("operators", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	ask := false
	d := newDesk(t, func(who string, text, signature []byte) error {
		if !ask {
			return nil
		}
		return operators.VerifyText(who, "config", text, signature)
	})
	ctx := t.Context()
	d.land("alice", "First", put("a.txt", []byte("1")))
	known := d.land("alice", "Second", put("b.txt", []byte("1"))).Commit
	ask = true
	move := func() string {
		git(t, d.dir, "update-ref", "refs/heads/main", known+"^")
		return git(t, d.dir, "rev-parse", "main")
	}
	found := move()
	r, err := d.Repository(ctx)
	if err != nil || r.Tip != known || r.Found != found || !strings.HasPrefix(r.Trouble, "branch main was rewritten by force: it was at "+known+" and is at "+found) {
		t.Fatalf("repository %+v, %v", r, err)
	}
	sign := func(do, known, found string, age time.Duration) *configapi.Act {
		var k, h repo.Hash
		if err := errors.Join(k.UnmarshalText([]byte(known)), h.UnmarshalText([]byte(found))); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age).Truncate(time.Millisecond)
		return &configapi.Act{Who: "alice", Why: "so", AtMs: at.UnixMilli(), Signature: operator.SignText(key, review.BranchStatement(r.ID, do, k, h, review.Act{Who: "alice", Why: "so", At: at}))}
	}
	const another = "restore of alice: signature: is not that of operator alice: another key, or something else was signed"
	for _, tt := range []struct {
		a    *configapi.Act
		says string
	}{
		{act("alice", "so"), "restore of alice: signature: is missing, and only operators may act here"},
		{sign("accept", known, found, 0), another},
		{sign("restore", found, known, 0), another},
		{sign("restore", "", found, 0), another},
		{sign("restore", known, found, time.Hour), "signature: was made at "},
	} {
		_, err := d.Restore(ctx, tt.a, found)
		d.refused(err, api.Denied, tt.says)
	}
	good := sign("restore", known, found, 0)
	_, err = d.Restore(ctx, good, known)
	d.refused(err, api.Changed, `branch main is at "`+found+`", and not at "`+known+`": look again`)
	if r, err = d.Restore(ctx, good, found); err != nil || r.Tip != known || r.Trouble+r.Found != "" {
		t.Fatalf("restored %+v, %v", r, err)
	}
	_, err = d.Restore(ctx, good, found)
	d.refused(err, api.Invalid, "branch main: nobody moved it: there is nothing to restore")
	move()
	if r, err = d.Accept(ctx, found, sign("accept", known, found, 0)); err != nil || r.Tip != found || r.Trouble+r.Found != "" {
		t.Fatalf("accepted %+v, %v", r, err)
	}
	git(t, d.dir, "update-ref", "-d", "refs/heads/main")
	if r, err = d.Repository(ctx); err != nil || r.Found != "" || !strings.Contains(r.Trouble, "is gone") {
		t.Errorf("repository %+v, %v", r, err)
	}
	if r, err = d.Restore(ctx, sign("restore", found, "", 0), ""); err != nil || r.Tip != found || r.Trouble != "" {
		t.Errorf("restored %+v, %v", r, err)
	}
}

// With operators every act is signed, and what it says is what is signed.
func TestSigned(t *testing.T) {
	signed := map[string]string{} // by who, the text that was asked about last
	d := newDesk(t, func(who string, text, signature []byte) error {
		signed[who] = string(text)
		if string(signature) != "by "+who {
			return errors.New("is missing, and only operators may act here")
		}
		return nil
	})
	ctx := t.Context()
	edits := put("zones/example.net.star", zone("example.net", "192.0.2.1"))
	_, err := d.Propose(ctx, act("alice", "because"), "Add it", "", edits, "")
	d.refused(err, api.Denied, "propose of alice: signature: is missing", "--key FILE signs")
	by := func(who string) *configapi.Act {
		return &configapi.Act{Who: who, Why: "because", AtMs: time.Now().UnixMilli(), Signature: []byte("by " + who)}
	}
	a := by("alice")
	p, err := d.Propose(ctx, a, "Add it", "", edits, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Repository(ctx)
	if err != nil {
		t.Fatal(err)
	}
	draft := review.Draft{Title: "Add it", Files: map[string][]byte{edits[0].Path: edits[0].Content}}
	want := string(review.Statement(r.ID, 0, review.Event{Do: review.Propose, Who: "alice", Why: "because", At: time.UnixMilli(a.AtMs), Content: draft.Content()}))
	if signed["alice"] != want {
		t.Errorf("signed was\n%s\nwant\n%s", signed["alice"], want)
	}
	old := by("bob")
	old.AtMs -= time.Hour.Milliseconds()
	_, err = d.Comment(ctx, p.Number, old)
	d.refused(err, api.Invalid, "set the clock")
	if _, err := d.Comment(ctx, p.Number, by("bob")); err != nil {
		t.Error(err)
	}
}

// TestPages: the pages of a tree are together all of it, whatever lands meanwhile.
func TestPages(t *testing.T) {
	d := newDesk(t, nil)
	ctx := t.Context()
	var edits []*configapi.Edit
	for i := range 25 {
		edits = append(edits, put(fmt.Sprintf("texts/%d/text%d", i%3, i), fmt.Append(nil, i))...)
	}
	want := d.land("alice", "Texts", edits).Commit
	var got []string
	commit, after := "", ""
	for pages := 1; ; pages++ {
		p, err := d.Tree(ctx, commit, after, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range p.Files {
			if len(got) > 0 && got[len(got)-1] >= f.Path {
				t.Errorf("%s comes behind %s", f.Path, got[len(got)-1])
			}
			got = append(got, f.Path)
		}
		if commit = p.Commit; commit != want {
			t.Fatalf("files of %s, want %s", commit, want)
		}
		if pages == 1 {
			d.land("bob", "More", put("texts/1/more", []byte("x")))
		}
		if after = p.Rest; after == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(got) != len(edits) {
		t.Errorf("%d files, want %d", len(got), len(edits))
	}
}

// said is a refusal in a line.
func said(err error) string {
	return fmt.Sprintf("%s: %s | %s", api.Code(err), api.Message(err), api.Hint(err))
}

// TestKeys: acts are those of operators with the right, and approvals of a key that was
// taken away do not count any more.
func TestKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "operators")
	keys, lines := map[string]ed25519.PrivateKey{}, map[string]string{}
	for _, who := range []string{"alice", "bob", "carol"} {
		public, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		line, err := operator.Line(who, public)
		if err != nil {
			t.Fatal(err)
		}
		keys[who], lines[who] = private, line
	}
	operators := func(all ...string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(all, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	operators(lines["alice"], lines["bob"]+" config", lines["carol"]+" freeze")
	d := newDesk(t, func(who string, text, signature []byte) error {
		o, err := operator.Load(file)
		if err != nil {
			return err
		}
		return o.VerifyText(who, "config", text, signature)
	})
	ctx := t.Context()
	repository, err := d.Repository(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(who string, number int32, e review.Event) *configapi.Act {
		e.Who, e.Why, e.At = who, "because", time.Now().Truncate(time.Millisecond)
		return &configapi.Act{Who: who, Why: e.Why, AtMs: e.At.UnixMilli(), Signature: operator.SignText(keys[who], review.Statement(repository.ID, int(number), e))}
	}
	draft := review.Draft{Title: "Add it", Files: map[string][]byte{"zones/example.net.star": zone("example.net", "192.0.2.1")}}
	edits := put("zones/example.net.star", zone("example.net", "192.0.2.1"))
	_, err = d.Propose(ctx, sign("carol", 0, review.Event{Do: review.Propose, Content: draft.Content()}), draft.Title, "", edits, "")
	const hint = " | --key FILE signs with an operator's key; the file of --control-operators says who may what"
	if got, want := said(err), `denied: propose of carol: signature: carol lacks the right "config"`+hint; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	mine := sign("alice", 0, review.Event{Do: review.Propose, Content: draft.Content()})
	_, err = d.Propose(ctx, mine, draft.Title, "", put("zones/example.net.star", zone("example.net", "192.0.2.2")), "")
	if got, want := said(err), "denied: propose of alice: signature: is not that of operator alice: another key, or something else was signed"+hint; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p, err := d.Propose(ctx, mine, draft.Title, "", edits, "")
	if err != nil {
		t.Fatal(err)
	}
	look := func() *configapi.Look {
		t.Helper()
		l, err := d.Review(ctx, p.Number)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	plan := look().Plan.Digest
	yes := sign("bob", p.Number, review.Event{Do: review.Approve, Head: hash(t, p.Head), Plan: plan})
	if p, err = d.Approve(ctx, p.Number, yes, plan); err != nil || p.State != "approved" {
		t.Fatalf("%+v, %v", p, err)
	}
	_, err = d.Approve(ctx, p.Number, yes, plan)
	if got, want := said(err), "invalid: signature: was used before | "; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if l := look(); !l.Requirements[0].Met || len(l.VoidApprovals) != 0 {
		t.Errorf("%+v", l)
	}
	operators(lines["alice"])
	l := look()
	if l.Requirements[0].Met || len(l.VoidApprovals) != 1 || !strings.HasSuffix(l.VoidApprovals[0], `does not count: approve of bob: signature: operator "bob" is not known here`) {
		t.Errorf("bob's key was taken away: %+v", l)
	}
	_, err = d.Land(ctx, p.Number, sign("alice", p.Number, review.Event{Do: review.Land, Head: hash(t, p.Head), Plan: plan}))
	if got, want := said(err), `changed: proposal 1: needs another look: approve of bob: signature: operator "bob" is not known here | look at it again: `+"`zonecast config review 1`"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	operators(lines["alice"], lines["bob"])
	landing, err := d.Land(ctx, p.Number, sign("alice", p.Number, review.Event{Do: review.Land, Head: hash(t, p.Head), Plan: plan}))
	if err != nil || len(landing.Approved) != 1 || landing.Approved[0] != "bob" {
		t.Errorf("landed: %+v, %v", landing, err)
	}
}

func hash(t *testing.T, s string) repo.Hash {
	t.Helper()
	h, err := repo.ParseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
