package review

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/configurator/repo"
)

func TestProposeApproveLand(t *testing.T) {
	b := newBench(t, "")
	n := b.propose("alice", map[string]string{"zones/example.net.star": "a\n"})
	b.state(n, Open)
	_, err := b.Land(t.Context(), n, Act{Who: "alice"})
	var missing *NotApprovedError
	if !errors.As(err, &missing) {
		t.Errorf("landed without approval: %v", err)
	}
	b.refused(err, "proposal 1: is not approved", "0 of 1 approvals of anybody")
	b.state(n, Open)
	b.mustApprove(n, "bob")
	b.state(n, Approved)
	l := b.land(n)
	p := b.state(n, Landed)
	if p.Landed != l.Commit {
		t.Errorf("landed as %s, says %s", l.Commit, p.Landed)
	}
	log, more, err := b.Log(t.Context(), repo.Hash{}, "", 1)
	if err != nil || more.IsZero() {
		t.Fatalf("%v, %v", more, err)
	}
	if diff := cmp.Diff(*l, log[0]); diff != "" {
		t.Errorf("log (-landing +log):\n%s", diff)
	}
	want := Landing{Commit: l.Commit, Number: n, Title: "Change zones/example.net.star", Author: "alice", By: "lander", When: b.clock.Now(), Approved: []string{"bob"}, Plan: l.Plan}
	if diff := cmp.Diff(want, *l); diff != "" {
		t.Errorf("landing (-want +got):\n%s", diff)
	}
	if diff, cut, err := b.Diff(t.Context(), n); err != nil || cut || !strings.Contains(diff, "+a\n") {
		t.Errorf("diff %q, %v, %v", diff, cut, err)
	}
	if got := b.git("log", "-1", "--format=%an|%cn|%s|%(trailers:key=Approved-by,valueonly,separator=%x2c)", "main"); got != "alice|lander|Change zones/example.net.star|bob" {
		t.Errorf("git says %q", got)
	}
	if got := b.git("log", "--format=%an %s", "--first-parent", "refs/proposals/1/log"); !strings.HasPrefix(got, "lander land proposal 1: "+p.Title+"\nbob approve proposal 1: "+p.Title+"\nalice propose proposal 1: "+p.Title+"\n") {
		t.Errorf("git says of the proposal\n%s", got)
	}
	if got := b.git("rev-parse", "refs/proposals/1/head"); got != p.Head.String() {
		t.Errorf("head is %s, want %s", got, p.Head)
	}
	_, err = b.Land(t.Context(), n, Act{Who: "alice"})
	b.refused(err, "proposal 1: is landed")
	b.refused(b.approve(n, "bob"), "is landed")
	_, err = b.Show(t.Context(), 2)
	b.refused(err, "proposal 2: there is none")
	b.fsck()
}

func TestWhoMayApprove(t *testing.T) {
	b := newBench(t, `
group dns bob carol
path /** @dns
path /zones/edge/ dave approvals=1
zone example.org bob carol dave approvals=2
`)
	n := b.propose("bob", map[string]string{"zones/example.net.star": "a\n"})
	b.refused(b.approve(n, "bob"), "is bob's own")
	b.refused(b.approve(n, "dave"), "dave owns nothing", "bob, carol", "OWNERS:3 path /**")
	b.mustApprove(n, "carol")
	b.land(n)

	// Owners of the path and of the zone are both needed.
	n = b.propose("alice", map[string]string{"zones/www.example.org.star": "a\n", "zones/edge/x": "b\n"})
	b.mustApprove(n, "dave")
	b.state(n, Open)
	_, err := b.Land(t.Context(), n, Act{Who: "alice"})
	b.refused(err, "0 of 1 approvals of bob, carol for zones/www.example.org.star", "1 of 2 approvals of bob, carol, dave for zone www.example.org.")
	b.mustApprove(n, "bob", "bob")
	b.state(n, Approved)
	if l := b.land(n); !cmp.Equal(l.Approved, []string{"bob", "dave"}) {
		t.Errorf("approved by %q", l.Approved)
	}

	n = b.propose("alice", map[string]string{"zones/edge/x": "c\n"})
	_, err = b.Reject(t.Context(), n, Act{Who: "carol", Why: "no"})
	b.refused(err, "carol owns nothing")
	if _, err := b.Reject(t.Context(), n, Act{Who: "dave", Why: "no"}); err != nil {
		t.Fatal(err)
	}
	b.state(n, Rejected, "no")
	b.refused(b.approve(n, "dave"), "is rejected")
}

// TestPolicyIsThatOfTheBranch has somebody propose a policy in which they own all.
func TestPolicyIsThatOfTheBranch(t *testing.T) {
	b := newBench(t, "")
	b.do("alice", map[string]string{"OWNERS": "path /** bob\npath /OWNERS carol dave approvals=2\n"})
	n := b.propose("mallory", map[string]string{"OWNERS": "path /** mallory eve\n", "zones/example.net.star": "a\n"})
	b.refused(b.approve(n, "eve"), "eve owns nothing")
	b.mustApprove(n, "bob", "carol")
	_, err := b.Land(t.Context(), n, Act{Who: "mallory"})
	b.refused(err, "1 of 2 approvals of carol, dave for OWNERS")

	// One made on top of an old policy needs what the present one asks for.
	tip, _ := b.repo.Tip(t.Context())
	old := draft(map[string]string{"zones/example.net.star": "b\n"})
	old.Base = tip
	p, err := b.Propose(t.Context(), Act{Who: "alice"}, old)
	if err != nil {
		t.Fatal(err)
	}
	b.mustApprove(p.Number, "bob")
	b.state(p.Number, Approved)
	policy := b.propose("bob", map[string]string{"OWNERS": "path /** eve\npath /OWNERS carol dave approvals=2\n"})
	b.mustApprove(policy, "carol", "dave")
	b.land(policy)
	_, err = b.Land(t.Context(), p.Number, Act{Who: "alice"})
	b.refused(err, "needs another look", "the policy of", "asks for more", "0 of 1 approvals of eve")
	b.state(p.Number, Again)
	b.mustApprove(p.Number, "eve")
	b.state(p.Number, Approved)
	b.land(p.Number)

	_, err = b.Propose(t.Context(), Act{Who: "alice"}, draft(map[string]string{"OWNERS": "path /** eve approvals=2\n"}))
	b.refused(err, "OWNERS:1", "needs 2 approvals and has 1 owners")
}

func TestRobots(t *testing.T) {
	b := newBench(t, `
path /** bob
zone example.org bob
robots path /rollouts/ rollout
robots path /zones/www.example.org.star rollout
robots path /OWNERS rollout
`)
	n := b.propose("rollout", map[string]string{"rollouts/web": "10%\n"})
	b.land(n)
	n = b.propose("alice", map[string]string{"rollouts/web": "20%\n"})
	_, err := b.Land(t.Context(), n, Act{Who: "alice"})
	b.refused(err, "is not approved")
	n = b.propose("rollout", map[string]string{"rollouts/web": "30%\n", "zones/example.net.star": "x\n"})
	_, err = b.Land(t.Context(), n, Act{Who: "rollout"})
	b.refused(err, "0 of 1 approvals of bob for zones/example.net.star")
	// The path is the robot's, and the zone is not.
	n = b.propose("rollout", map[string]string{"zones/www.example.org.star": "x\n"})
	_, err = b.Land(t.Context(), n, Act{Who: "rollout"})
	b.refused(err, "0 of 1 approvals of bob for zone www.example.org.")
	// The policy is nobody's without review.
	n = b.propose("rollout", map[string]string{"OWNERS": "robots path /** rollout\n"})
	_, err = b.Land(t.Context(), n, Act{Who: "rollout"})
	b.refused(err, "0 of 1 approvals of bob for OWNERS")
	if _, err := b.Reject(t.Context(), n, Act{Who: "bob", Why: "no"}); err != nil {
		t.Error(err)
	}
}

func TestApprovalExpires(t *testing.T) {
	b := newBench(t, "expire 3d")
	n := b.propose("alice", map[string]string{"a": "1\n"})
	b.mustApprove(n, "bob")
	b.clock.pass(72*time.Hour + time.Minute)
	_, err := b.Land(t.Context(), n, Act{Who: "alice"})
	var again *AgainError
	if !errors.As(err, &again) {
		t.Errorf("got %v", err)
	}
	b.refused(err, "needs another look", "the approval of bob of 2026-11-26T12:00:00Z expired after 3 days")
	b.state(n, Again, "expired after 3 days")
	before := len(b.state(n, Again).Events)
	_, err = b.Land(t.Context(), n, Act{Who: "alice"})
	b.refused(err, "expired after 3 days")
	if after := len(b.state(n, Again).Events); after != before {
		t.Errorf("the same is noted again: %d entries, were %d", after, before)
	}
	if len(b.files()) != 0 {
		t.Error("something landed")
	}
	b.mustApprove(n, "bob")
	b.land(n)
}

func TestProposalExpires(t *testing.T) {
	b := newBench(t, "abandon 2w")
	old := b.propose("alice", map[string]string{"a": "1\n"})
	landed := b.do("alice", map[string]string{"c": "1\n"})
	b.clock.pass(13 * 24 * time.Hour)
	young := b.propose("alice", map[string]string{"b": "1\n"})
	b.clock.pass(24*time.Hour + time.Minute)
	if n, err := b.ExpireOld(t.Context()); n != 1 || err != nil {
		t.Errorf("%d ended, %v; want 1", n, err)
	}
	b.state(old, Expired, "nothing happened for 14 days")
	b.state(young, Open)
	b.state(landed, Landed)
	_, err := b.Land(t.Context(), old, Act{Who: "alice"})
	b.refused(err, "is expired")
	if _, err := b.Revise(t.Context(), old, Act{Who: "alice"}, draft(map[string]string{"a": "2\n"})); err != nil {
		t.Fatal(err)
	}
	b.mustApprove(old, "bob")
	b.land(old)
}

// TestPlannedAgain moves the branch so that the same change does something else.
func TestPlannedAgain(t *testing.T) {
	b := newBench(t, "")
	b.do("alice", map[string]string{"zones/common": "ttl 60\n"})
	n := b.propose("alice", map[string]string{"zones/example.net.star": "a\n"})
	b.mustApprove(n, "bob")
	b.do("carol", map[string]string{"other": "x\n"}) // has nothing to do with it
	other := b.propose("dave", map[string]string{"zones/common": "ttl 3600\n"})
	b.mustApprove(other, "bob")
	b.land(other)
	_, err := b.Land(t.Context(), n, Act{Who: "alice"})
	b.refused(err, "needs another look", "the plan is another on top of")
	b.state(n, Again, "the plan is another")
	if _, ok := b.files()["zones/example.net.star"]; ok {
		t.Error("it landed all the same")
	}
	l, err := b.Examine(t.Context(), n)
	if err != nil || len(l.Void) != 1 {
		t.Errorf("void: %v, %v", l.Void, err)
	}
	_, err = b.Approve(t.Context(), n, Act{Who: "bob"}, l.Void[0].Approval.Plan)
	var changed *PlanChangedError
	if !errors.As(err, &changed) {
		t.Errorf("approved what was seen before: %v", err)
	}
	b.mustApprove(n, "bob")
	b.land(n)
}

// What a change does is up to others, too: when they change it, with nothing landed, what
// was approved is not what would land.
func TestPlannedAgainForOthers(t *testing.T) {
	b := newBench(t, "")
	n := b.propose("alice", map[string]string{"zones/a.star": "a\n"})
	b.mustApprove(n, "bob")
	b.planner.mu.Lock()
	b.planner.others = "an override"
	b.planner.mu.Unlock()
	_, err := b.Land(t.Context(), n, Act{Who: "alice"})
	b.refused(err, "proposal 1: needs another look: the plan is another")
	b.mustApprove(n, "bob")
	b.land(n)
}

func TestCompilesApartAndNotTogether(t *testing.T) {
	b := newBench(t, "")
	first := b.propose("alice", map[string]string{"a": "name www\n"})
	second := b.propose("carol", map[string]string{"b": "name www\n"})
	b.mustApprove(first, "bob")
	b.mustApprove(second, "bob")
	b.land(first)
	_, err := b.Land(t.Context(), second, Act{Who: "carol"})
	var bad *SourceError
	var again *AgainError
	if !errors.As(err, &bad) || !errors.As(err, &again) {
		t.Errorf("got %v", err)
	}
	b.refused(err, "needs another look", "its sources are no good", "name www is in a, too")
	b.state(second, Again, "name www is in a, too")
	_, err = b.Propose(t.Context(), Act{Who: "alice"}, draft(map[string]string{"c": "BROKEN\n"}))
	b.refused(err, "c: is broken")
	// What is not the sources' fault changes nothing.
	third := b.propose("carol", map[string]string{"d": "x\n"})
	b.mustApprove(third, "bob")
	b.do("alice", map[string]string{"e": "x\n"})
	b.planner.ill = errors.New("no memory")
	_, err = b.Land(t.Context(), third, Act{Who: "carol"})
	b.refused(err, "no memory")
	b.state(third, Approved)
	b.planner.ill = nil
	b.land(third)
}

func TestConflictNamesBoth(t *testing.T) {
	b := newBench(t, "")
	b.do("alice", map[string]string{"zones/example.net.star": "1\n2\n3\n4\n5\n6\n7\n8\n"})
	one := b.propose("alice", map[string]string{"zones/example.net.star": "1\n2\n3\nfour\n5\n6\n7\n8\n"})
	far := b.propose("erin", map[string]string{"zones/example.net.star": "1\n2\n3\n4\n5\n6\n7\neight\n"})
	two := b.propose("carol", map[string]string{"zones/example.net.star": "1\n2\n3\nvier\n5\n6\n7\n8\n"})
	for _, n := range []int{one, two, far} {
		b.mustApprove(n, "bob")
	}
	b.land(one)
	b.land(far)
	before := b.files()
	_, err := b.Land(t.Context(), two, Act{Who: "carol"})
	var conflict *ConflictError
	if !errors.As(err, &conflict) || len(conflict.With) != 1 || conflict.With[0].Number != one {
		t.Errorf("got %v", err)
	}
	landed := b.state(one, Landed).Landed
	b.refused(err, `proposal 4 ("Change zones/example.net.star", carol) conflicts with proposal 2 ("Change zones/example.net.star", alice, landed as `+landed.Short()+")",
		"zones/example.net.star line 4: both change it")
	b.state(two, Again, "conflicts with proposal 2")
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
	b.refused(b.approve(two, "bob"), "conflicts with proposal 2")
	// Made anew on top of it, it lands.
	if _, err := b.Revise(t.Context(), two, Act{Who: "bob"}, draft(map[string]string{"x": "y"})); err == nil {
		t.Error("somebody else revised it")
	}
	d := draft(map[string]string{"zones/example.net.star": "1\n2\n3\nfour, vier\n5\n6\n7\neight\n"})
	p, err := b.Revise(t.Context(), two, Act{Who: "carol"}, d)
	if err != nil || p.State != Open {
		t.Fatalf("%+v, %v", p, err)
	}
	_, err = b.Land(t.Context(), two, Act{Who: "carol"})
	b.refused(err, "0 of 1 approvals")
	b.mustApprove(two, "bob")
	b.land(two)
	b.fsck()
}

func TestRevert(t *testing.T) {
	b := newBench(t, "")
	b.do("alice", map[string]string{"a": "1\n2\n3\n4\n5\n", "gone": "x\n"})
	n := b.do("alice", map[string]string{"a": "one\n2\n3\n4\n5\n", "gone": "-", "new": "n\n"})
	b.do("carol", map[string]string{"a": "one\n2\n3\n4\nfive\n"})
	p, err := b.Revert(t.Context(), n, Act{Who: "carol", Why: "It broke www."})
	if err != nil {
		t.Fatal(err)
	}
	if p.Author != "carol" || p.Reverts != n || p.State != Open || !strings.Contains(p.Reason, "It broke www.") {
		t.Errorf("%+v", p)
	}
	b.refused(b.approve(p.Number, "carol"), "carol's own")
	b.mustApprove(p.Number, "bob")
	if l := b.land(p.Number); l.Reverts != n {
		t.Errorf("%+v", l)
	}
	want := map[string]string{"a": "1\n2\n3\n4\nfive\n", "gone": "x\n"}
	if diff := cmp.Diff(want, b.files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	_, err = b.Revert(t.Context(), n, Act{Who: "carol", Why: "again"})
	b.refused(err, "nothing of it is left")
	open := b.propose("alice", map[string]string{"x": "x\n"})
	_, err = b.Revert(t.Context(), open, Act{Who: "carol", Why: "x"})
	b.refused(err, "is open: only what has landed")
	// What was changed since cannot be taken back alone.
	n = b.do("alice", map[string]string{"a": "eins\n2\n3\n4\nfive\n"})
	later := b.do("alice", map[string]string{"a": "uno\n2\n3\n4\nfive\n"})
	_, err = b.Revert(t.Context(), n, Act{Who: "carol", Why: "x"})
	b.refused(err, fmt.Sprintf("the inverse of proposal %d", n), fmt.Sprintf("conflicts with proposal %d", later), "a line 1: both change it")
	// So can a revert, which is a change like any other.
	_, err = b.Revert(t.Context(), p.Number, Act{Who: "carol", Why: "It was not it."})
	b.refused(err, "conflicts with")
	b.fsck()
}

func TestProposeACommit(t *testing.T) {
	b := newBench(t, "")
	b.do("alice", map[string]string{"a": "1\n"})
	work := filepath.Join(t.TempDir(), "work")
	b.git("clone", "-q", b.dir, work)
	b.do("alice", map[string]string{"b": "1\n"})
	if err := os.WriteFile(filepath.Join(work, "c"), []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.git("-C", work, "add", "c")
	b.git("-C", work, "-c", "user.name=dave", "-c", "user.email=dave@example.net", "commit", "-q", "-m", "c")
	b.git("-C", work, "push", "-q", "origin", "HEAD:refs/heads/dave/c")
	h, err := b.repo.Resolve(t.Context(), "refs/heads/dave/c")
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Propose(t.Context(), Act{Who: "dave"}, Draft{Title: "c", Reason: "c", Commit: h})
	if err != nil {
		t.Fatal(err)
	}
	b.mustApprove(p.Number, "bob")
	b.land(p.Number)
	if diff := cmp.Diff(map[string]string{"a": "1\n", "b": "1\n", "c": "1\n"}, b.files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestRewrittenBranch(t *testing.T) {
	b := newBench(t, "")
	b.do("alice", map[string]string{"a": "1\n"})
	old, _ := b.repo.Tip(t.Context())
	n := b.propose("alice", map[string]string{"b": "1\n"})
	b.mustApprove(n, "bob")
	first := b.git("rev-list", "--max-parents=0", "main")
	b.git("update-ref", "refs/heads/main", first)
	_, err := b.Land(t.Context(), n, Act{Who: "alice"})
	b.refused(err, "was rewritten by force", old.String(), first)
	b.state(n, Approved)
	b.open(nil) // comes up, and says the same
	_, err = b.Land(t.Context(), n, Act{Who: "alice"})
	b.refused(err, "was rewritten by force")
	_, err = b.Propose(t.Context(), Act{Who: "alice"}, draft(map[string]string{"c": "1\n"}))
	b.refused(err, "was rewritten by force")
	if log, _, err := b.Log(t.Context(), repo.Hash{}, "", 10); err != nil || log[0].Commit != old {
		t.Errorf("log: %v, %v", log, err)
	}
	found, err := repo.ParseHash(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.repo.Accept(t.Context(), found, "carol", "a was secret"); err != nil {
		t.Fatal(err)
	}
	// Its base is gone with the rest.
	if _, err = b.Land(t.Context(), n, Act{Who: "alice"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"b": "1\n"}, b.files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	b.fsck()
}

func TestSignatures(t *testing.T) {
	keys := map[string]ed25519.PublicKey{}
	private := map[string]ed25519.PrivateKey{}
	for i, who := range []string{"alice", "bob", "lander"} {
		private[who] = ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i)), 32)))
		keys[who] = private[who].Public().(ed25519.PublicKey)
	}
	b := newBench(t, "", func(c *Config) {
		c.Verify = func(who string, statement, signature []byte) error {
			if signature == nil && strings.Contains(string(statement), "\ndo comment\n") {
				return nil
			}
			if k := keys[who]; k == nil || !ed25519.Verify(k, statement, signature) {
				return errors.New("is not by a key of theirs")
			}
			return nil
		}
	})
	sign := func(who string, n int, e Event) Act {
		e.Who, e.At = who, b.clock.Now()
		return Act{Who: who, Why: e.Why, At: e.At, Signature: ed25519.Sign(private[who], Statement(b.repo.ID(), n, e))}
	}
	d := draft(map[string]string{"a": "1\n"})
	_, err := b.Propose(t.Context(), Act{Who: "alice"}, d)
	b.refused(err, "propose of alice: signature: is not by a key of theirs")
	p, err := b.Propose(t.Context(), sign("alice", 0, Event{Do: Propose, Content: d.Content(), Why: d.Reason}), d)
	if err != nil {
		t.Fatal(err)
	}
	n, plan := p.Number, p.Events[0].Plan
	if _, err := b.Comment(t.Context(), n, Act{Who: "eve", Why: "Hm."}); err != nil {
		t.Error(err)
	}
	good := sign("bob", n, Event{Do: Approve, Head: p.Head, Plan: plan, Why: "fine"})
	for name, bad := range map[string]Act{
		"other text":      {Who: "bob", Why: "other", At: good.At, Signature: good.Signature},
		"other person":    {Who: "lander", Why: "fine", At: good.At, Signature: good.Signature},
		"other proposal":  sign("bob", n+1, Event{Do: Approve, Head: p.Head, Plan: plan}),
		"other head":      sign("bob", n, Event{Do: Approve, Head: p.Base, Plan: plan}),
		"other plan":      sign("bob", n, Event{Do: Approve, Head: p.Head, Plan: "other"}),
		"other deed":      sign("bob", n, Event{Do: Comment, Head: p.Head, Plan: plan}),
		"other time":      {Who: "bob", Why: "fine", At: good.At.Add(time.Second), Signature: good.Signature},
		"wrong clock":     {Who: "bob", Why: "fine", At: good.At.Add(time.Hour), Signature: good.Signature},
		"no signature":    {Who: "bob", Why: "fine"},
		"too much signed": {Who: "bob", At: good.At, Signature: make([]byte, maxSign+1)},
	} {
		if _, err := b.Approve(t.Context(), n, bad, plan); err == nil || !strings.Contains(err.Error(), "signature") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Approve(t.Context(), n, good, plan); err != nil {
		t.Fatal(err)
	}
	_, err = b.Approve(t.Context(), n, good, plan)
	b.refused(err, "was used before")
	// A key that is not one any more takes its approvals with it.
	key := keys["bob"]
	delete(keys, "bob")
	_, err = b.Land(t.Context(), n, sign("lander", n, Event{Do: Land, Head: p.Head, Plan: plan}))
	b.refused(err, "needs another look", "approve of bob: signature")
	keys["bob"] = key
	if _, err := b.Land(t.Context(), n, sign("lander", n, Event{Do: Land, Head: p.Head, Plan: plan})); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Revert(t.Context(), n, sign("alice", 0, Event{Do: Propose, Content: fmt.Sprint("revert ", n), Why: "It broke www."})); err != nil {
		t.Error(err)
	}
}

func TestSignaturesWithoutKeys(t *testing.T) {
	b := newBench(t, "")
	_, err := b.Propose(t.Context(), Act{Who: "alice", Signature: []byte("x")}, draft(map[string]string{"a": "1\n"}))
	b.refused(err, "no keys are known")
}

func TestBadActs(t *testing.T) {
	b := newBench(t, "")
	n := b.propose("alice", map[string]string{"a": "1\n"})
	for _, who := range []string{"", "@dns", "*", "a b", "a\nb", "zonecast", strings.Repeat("x", 101), "a<b"} {
		if _, err := b.Comment(t.Context(), n, Act{Who: who, Why: "x"}); err == nil {
			t.Errorf("operator %q is taken", who)
		}
	}
	for _, d := range []Draft{
		{Title: "x", Files: map[string][]byte{"x": {}}},
		{Reason: "x", Files: map[string][]byte{"x": {}}},
		{Title: "x\ny", Reason: "x", Files: map[string][]byte{"x": {}}},
		{Title: strings.Repeat("x", 201), Reason: "x", Files: map[string][]byte{"x": {}}},
		{Title: "x", Reason: strings.Repeat("x", maxWhy+1), Files: map[string][]byte{"x": {}}},
		{Title: "x", Reason: "\u202ex", Files: map[string][]byte{"x": {}}},
		{Title: "x", Reason: "x"},
		{Title: "x", Reason: "x", Files: map[string][]byte{"../x": {}}},
		{Title: "x", Reason: "x", Files: map[string][]byte{"gone": nil}},
		{Title: "x", Reason: "x", Files: map[string][]byte{"x": {}}, Base: repo.Hash{1}},
		{Title: "x", Reason: "x", Commit: repo.Hash{1}},
	} {
		if p, err := b.Propose(t.Context(), Act{Who: "alice"}, d); err == nil {
			t.Errorf("proposed %+v", p)
		}
	}
	if _, err := b.Comment(t.Context(), n, Act{Who: "bob"}); err == nil {
		t.Error("an empty comment")
	}
	if _, _, err := b.List(t.Context(), 0, maxPage+1); err == nil {
		t.Error("a page without end")
	}
	// What is refused leaves nothing behind.
	if got := b.git("for-each-ref", "--format=%(refname)", "refs/proposals"); got != "refs/proposals/1/head\nrefs/proposals/1/log" {
		t.Errorf("references %q", got)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	b := newBench(t, "")
	n := b.propose("alice", map[string]string{"a": "1\n"})
	p, log, err := b.get(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	long := *p
	for len(long.Events) < maxEvents {
		long.Events = append(long.Events, Event{At: b.clock.Now(), Who: "bob", Do: Comment, Why: "Hm.", Head: p.Head})
	}
	if done, err := b.swap(t.Context(), log, &long); !done || err != nil {
		t.Fatal(done, err)
	}
	_, err = b.Comment(t.Context(), n, Act{Who: "bob", Why: "Hm."})
	b.refused(err, "has a history of 1000 entries")
	if _, err := b.Reject(t.Context(), n, Act{Who: "bob", Why: "Enough."}); err != nil {
		t.Error(err)
	}
	b.open(nil)
	b.state(n, Rejected)
}

func TestList(t *testing.T) {
	b := newBench(t, "")
	for i := range 5 {
		n := b.propose("alice", map[string]string{fmt.Sprint("f", i): "1\n"})
		if i%2 == 0 {
			b.mustApprove(n, "bob")
			b.land(n)
		}
	}
	for range 2 {
		var got []int
		for below, more := 0, true; more; more = below != 0 {
			list, next, err := b.List(t.Context(), below, 2, Open, Landed)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				got = append(got, s.Number)
			}
			below = next
		}
		if !cmp.Equal(got, []int{5, 4, 3, 2, 1}) {
			t.Errorf("listed %v", got)
		}
		list, next, err := b.List(t.Context(), 0, 10, Open)
		if err != nil || len(list) != 2 || next != 0 || list[0].Number != 4 {
			t.Errorf("open: %v, %d, %v", list, next, err)
		}
		b.open(nil)
	}
}

// TestDamagedProposal writes nonsense where proposals are. The others go on.
func TestDamagedProposal(t *testing.T) {
	b := newBench(t, "")
	n := b.propose("alice", map[string]string{"a": "1\n"})
	bad := b.propose("alice", map[string]string{"b": "1\n"})
	tip, _ := b.repo.Tip(t.Context())
	b.git("update-ref", logRef(bad), tip.String())
	b.git("update-ref", "refs/proposals/x/log", tip.String())
	b.git("update-ref", "refs/proposals/77/log", b.git("rev-parse", logRef(n)))
	b.open(nil)
	_, err := b.Show(t.Context(), bad)
	b.refused(err, "proposal 2", "proposal.json")
	b.refused(b.approve(bad, "bob"), "proposal.json")
	_, err = b.Show(t.Context(), 77)
	b.refused(err, "proposal 77", "says that it is 1")
	if len(b.Damaged()) != 2 {
		t.Errorf("damaged: %v", b.Damaged())
	}
	b.mustApprove(n, "bob")
	b.land(n)
	if next := b.propose("alice", map[string]string{"c": "1\n"}); next != 78 {
		t.Errorf("the next one is %d, want 78", next)
	}
}

func FuzzDecodeProposal(f *testing.F) {
	h := repo.Hash{1}
	p := &Proposal{
		Format: 1, Number: 2, Title: "t", Reason: "r", Author: "alice", Created: time.Unix(1, 0).UTC(), State: Landed, Base: h, Head: h, Landed: h, Reverts: 1,
		Events: []Event{{At: time.Unix(1, 0).UTC(), Who: "bob", Do: Approve, Head: h, Onto: h, Plan: "p", Signature: []byte{1}}},
	}
	b, err := p.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeProposal(b)
		if err != nil {
			return
		}
		again, err := p.encode()
		if err != nil {
			t.Skip("a year that JSON does not have")
		}
		q, err := decodeProposal(again)
		if err != nil {
			t.Fatalf("%q becomes %q: %v", b, again, err)
		}
		if a, _ := json.Marshal(q); !json.Valid(a) {
			t.Errorf("%q", a)
		}
		_ = p.last()
		_ = Statement("id", p.Number, p.Events[0])
	})
}

func FuzzLandingOf(f *testing.F) {
	l := Landing{Number: 7, Title: "t", Author: "alice", By: "carol", Approved: []string{"bob"}, Reverts: 3, Plan: "p"}
	f.Add(l.message("why"))
	f.Add("t\n\nProposal: 7")
	f.Fuzz(func(t *testing.T, message string) {
		got := landingOf(&repo.Commit{Message: message})
		if got.Number < 0 || got.Number > maxNumber {
			t.Errorf("%q: %+v", message, got)
		}
		// Whatever reason people give: ours is what is read.
		mine := landingOf(&repo.Commit{Message: l.message(message)})
		if !cmp.Equal(mine, l) {
			t.Errorf("%q: %+v", message, mine)
		}
	})
}

func TestRun(t *testing.T) {
	b := newBench(t, "abandon 1h")
	n := b.propose("alice", map[string]string{"a": "1\n"})
	b.clock.pass(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx, nil) }()
	for p, err := b.Show(t.Context(), n); err == nil && p.State != Expired; p, err = b.Show(t.Context(), n) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
