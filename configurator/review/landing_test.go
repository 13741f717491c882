package review

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/configurator/repo"
)

// checks runs a property that costs a hundred processes each time less often than others.
func checks(t *testing.T, n int, f func(*rapid.T)) {
	t.Helper()
	old := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", fmt.Sprint(n)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flag.Set("rapid.checks", old) }()
	rapid.Check(t, f)
}

// base is a file of which proposals change lines that lie apart.
func base() map[string]string {
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return map[string]string{"shared": b.String(), "zones/old.star": "x\n", "d/e/f": "x\n"}
}

// edits are changes that do not conflict: each a function of files.
var edits = []func(files map[string]string) map[string]string{
	func(f map[string]string) map[string]string { return map[string]string{"zones/a.star": "a\n"} },
	func(f map[string]string) map[string]string { return map[string]string{"zones/b.star": "b\n"} },
	func(f map[string]string) map[string]string { return map[string]string{"zones/old.star": "-"} },
	func(f map[string]string) map[string]string { return map[string]string{"d/e/g": "g\n", "d/h": "h\n"} },
	func(f map[string]string) map[string]string { return map[string]string{"d/e/f": "y\n"} },
	func(f map[string]string) map[string]string {
		return map[string]string{"shared": strings.Replace(f["shared"], "line 3\n", "line three\n", 1)}
	},
	func(f map[string]string) map[string]string {
		return map[string]string{"shared": strings.Replace(f["shared"], "line 20\n", "", 1)}
	},
	func(f map[string]string) map[string]string {
		return map[string]string{"shared": f["shared"] + "line 40\nline 41\n"}
	},
}

// TestInterleavings lands changes that do not conflict in any order, proposed on any
// state of the branch, approved at any time, and finds what they are together: always
// the same. Of two that change the same line one lands, and the other is refused and
// names both.
func TestInterleavings(t *testing.T) {
	one, other := strings.Replace(base()["shared"], "line 30\n", "line thirty\n", 1), strings.Replace(base()["shared"], "line 30\n", "line dreissig\n", 1)
	trees := map[string]string{} // by the set of edits
	checks(t, 15, func(rt *rapid.T) {
		b := newBench(t, "")
		b.t = rt
		b.do("alice", base())
		first, err := b.repo.Tip(t.Context())
		if err != nil {
			rt.Fatal(err)
		}
		chosen := rapid.SliceOfNDistinct(rapid.IntRange(0, len(edits)-1), 2, 5, rapid.ID).Draw(rt, "edits")
		conflict := rapid.Bool().Draw(rt, "conflict")
		type step struct{ todo, number int } // 0 to propose, 1 to approve, 2 to land
		steps := make([]step, len(chosen), len(chosen)+2)
		if conflict {
			steps = append(steps, step{}, step{})
		}
		clashed := 0
		for open := len(steps); open > 0; {
			i := rapid.IntRange(0, len(steps)-1).Draw(rt, "who")
			s := &steps[i]
			switch s.todo {
			case 0:
				var d Draft
				if i < len(chosen) {
					// Made from the first state or from the present one.
					if files := base(); rapid.Bool().Draw(rt, "from the present") {
						d = draft(edits[chosen[i]](b.files()))
					} else {
						d = draft(edits[chosen[i]](files))
						d.Base = first
					}
				} else {
					d = draft(map[string]string{"shared": []string{one, other}[i-len(chosen)]})
					d.Base = first
				}
				p, err := b.Propose(t.Context(), Act{Who: "alice"}, d)
				if i >= len(chosen) && err != nil {
					b.clash(err)
					clashed++
					s.todo, open = 3, open-1
					continue
				}
				if err != nil {
					rt.Fatal(err)
				}
				s.number = p.Number
			case 1, 2:
				if s.todo == 1 {
					err = b.approve(s.number, "bob")
				} else {
					_, err = b.Land(t.Context(), s.number, Act{Who: "carol"})
				}
				if i >= len(chosen) && err != nil {
					b.clash(err)
					clashed++
					s.todo, open = 3, open-1
					continue
				}
				if err != nil {
					rt.Fatal(err)
				}
				if s.todo == 2 {
					open--
				}
			default:
				continue
			}
			s.todo++
		}
		if conflict && clashed != 1 {
			rt.Fatalf("%d of two conflicting proposals were refused, want one", clashed)
		}
		files := b.files()
		files["shared"] = strings.NewReplacer("thirty", "30", "dreissig", "30").Replace(files["shared"])
		want := base()
		for _, i := range chosen {
			for name, content := range edits[i](want) {
				if content == "-" {
					delete(want, name)
				} else {
					want[name] = content
				}
			}
		}
		if diff := cmp.Diff(want, files); diff != "" {
			rt.Fatalf("files (-want +got):\n%s", diff)
		}
		if !conflict {
			slices.Sort(chosen)
			tip, _ := b.repo.Tip(t.Context())
			tree, _ := b.repo.Tree(t.Context(), tip)
			key := fmt.Sprint(chosen)
			if before := trees[key]; before != "" && before != tree.Hash().String() {
				rt.Fatalf("%s: tree %s, in another order %s", key, tree.Hash(), before)
			}
			trees[key] = tree.Hash().String()
		}
		b.fsck()
		b.repo.Close()
	})
}

// clash wants a conflict that names the other change.
func (b *bench) clash(err error) {
	b.t.Helper()
	var c *ConflictError
	if !errors.As(err, &c) || len(c.With) != 1 || c.With[0].Number == 0 {
		b.t.Fatalf("got %v", err)
	}
	b.refused(err, "shared line ", ": both change it", fmt.Sprintf("proposal %d", c.With[0].Number), "alice")
}

// TestTwoStreams has two users propose, and land what the other approves, at the same
// time, in files of their own and in a file that both change. Nothing is refused.
func TestTwoStreams(t *testing.T) {
	b := newBench(t, "")
	const each = 12
	var shared strings.Builder
	for i := range 2 * each {
		fmt.Fprintf(&shared, "entry %d\n\n\n", i)
	}
	b.do("alice", map[string]string{"shared": shared.String()})
	start, err := b.repo.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make(chan error, 4*each)
	users := []string{"alice", "carol"}
	for u, who := range users {
		wg.Go(func() {
			for i := range each {
				n := u*each + i
				d := draft(map[string]string{
					fmt.Sprintf("zones/%s-%d.star", who, i): "x\n",
					"shared":                                strings.Replace(shared.String(), fmt.Sprintf("entry %d\n", n), fmt.Sprintf("entry %d of %s\n", n, who), 1),
				})
				d.Base = start
				p, err := b.Propose(context.Background(), Act{Who: who}, d)
				if err != nil {
					errs <- err
					continue
				}
				if err := b.approve(p.Number, users[1-u]); err != nil {
					errs <- err
				}
				if _, err := b.Land(context.Background(), p.Number, Act{Who: who}); err != nil {
					errs <- err
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Errorf("refused: %v", err)
	}
	files := b.files()
	for i := range 2 * each {
		if who := users[i/each]; !strings.Contains(files["shared"], fmt.Sprintf("entry %d of %s\n", i, who)) || files[fmt.Sprintf("zones/%s-%d.star", who, i%each)] == "" {
			t.Errorf("change %d of %s is lost", i%each, who)
		}
	}
	log, _, err := b.Log(t.Context(), repo.Hash{}, "", 100)
	if err != nil || len(log) != 2*each+2 {
		t.Errorf("%d landings, %v; want %d", len(log), err, 2*each+2)
	}
	b.fsck()
}

// TestLandedOnce has many land the same proposal at once.
func TestLandedOnce(t *testing.T) {
	b := newBench(t, "")
	n := b.propose("alice", map[string]string{"a": "1\n"})
	b.mustApprove(n, "bob")
	var wg sync.WaitGroup
	results := make(chan error, 8)
	for range cap(results) {
		wg.Go(func() {
			_, err := b.Land(context.Background(), n, Act{Who: "carol"})
			results <- err
		})
	}
	wg.Wait()
	close(results)
	landed := 0
	for err := range results {
		if err == nil {
			landed++
		} else {
			b.refused(err, "proposal 1: is landed")
		}
	}
	if landed != 1 {
		t.Errorf("landed %d times", landed)
	}
	if log, _, err := b.Log(t.Context(), repo.Hash{}, "", 10); err != nil || len(log) != 2 {
		t.Errorf("log %v, %v", log, err)
	}
}

// TestFirstComeFirstServed asks for landings while one goes on.
func TestFirstComeFirstServed(t *testing.T) {
	b := newBench(t, "")
	var numbers []int
	for i := range 6 {
		n := b.propose("alice", map[string]string{fmt.Sprint("f", i): "1\n"})
		b.mustApprove(n, "bob")
		numbers = append(numbers, n)
	}
	order := []int{3, 0, 5, 1, 4, 2}
	b.queue <- struct{}{}
	var wg sync.WaitGroup
	for _, i := range order {
		wg.Go(func() {
			if _, err := b.Land(context.Background(), numbers[i], Act{Who: "carol"}); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(20 * time.Millisecond) // until it waits
	}
	// One that gives up is not landed.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	extra := b.propose("alice", map[string]string{"extra": "1\n"})
	b.mustApprove(extra, "bob")
	if _, err := b.Land(ctx, extra, Act{Who: "carol"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-b.queue
	wg.Wait()
	log, _, err := b.Log(t.Context(), repo.Hash{}, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, l := range slices.Backward(log) {
		if l.Number > 0 {
			got = append(got, l.Number-1)
		}
	}
	if !slices.Equal(got, order) {
		t.Errorf("landed in the order %v, want %v", got, order)
	}
	b.state(extra, Approved)
}

// TestCommentsWhileLanding changes a proposal while it is being planned for its landing.
func TestCommentsWhileLanding(t *testing.T) {
	b := newBench(t, "")
	n := b.propose("alice", map[string]string{"a": "1\n"})
	b.mustApprove(n, "bob")
	b.do("carol", map[string]string{"b": "1\n"}) // so that it is planned again
	b.planner.slow = 100 * time.Millisecond
	done := make(chan error)
	go func() {
		_, err := b.Land(context.Background(), n, Act{Who: "alice"})
		done <- err
	}()
	time.Sleep(30 * time.Millisecond)
	if _, err := b.Comment(t.Context(), n, Act{Who: "dave", Why: "Nice."}); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if p := b.state(n, Landed); !slices.ContainsFunc(p.Events, func(e Event) bool { return e.Do == Comment }) {
		t.Error("the comment is lost")
	}

	n = b.propose("alice", map[string]string{"a": "2\n"})
	b.mustApprove(n, "bob")
	b.do("carol", map[string]string{"b": "2\n"})
	go func() {
		_, err := b.Land(context.Background(), n, Act{Who: "alice"})
		done <- err
	}()
	time.Sleep(30 * time.Millisecond)
	if _, err := b.Reject(t.Context(), n, Act{Who: "alice", Why: "Wait."}); err != nil {
		t.Error(err)
	}
	b.refused(<-done, "is rejected")
	if b.files()["a"] != "1\n" {
		t.Error("what was rejected landed")
	}
}

// TestCrash kills git, or this process, at each command that writes of a proposal's life,
// before, within or after it. The next process finds each act wholly done or not at all,
// the proposal landed if and only if the branch has it, and goes on to land it.
func TestCrash(t *testing.T) {
	for _, how := range []string{"before", "within", "after"} {
		died, landed := 0, 0
		for step := 0; ; step++ {
			b := newBench(t, "")
			b.do("alice", map[string]string{"b": "1\n"})
			f := newFailing(t, b.dir)
			b.open(f)
			f.mu.Lock()
			f.left, f.how = step, how
			f.mu.Unlock()
			ctx := t.Context()
			n, acknowledged := 0, ""
			p, err := b.Propose(ctx, Act{Who: "alice"}, draft(map[string]string{"a": "1\n"}))
			if err == nil {
				n, acknowledged = p.Number, "propose"
				if err = b.approve(n, "bob"); err == nil {
					acknowledged = "approve"
					if _, err = b.Land(ctx, n, Act{Who: "carol"}); err == nil {
						acknowledged = "land"
					}
				}
			}
			f.mu.Lock()
			dead := f.died
			f.mu.Unlock()
			b.open(nil)
			list, _, err := b.List(ctx, 0, 10, Open, Approved, Again, Landed)
			if err != nil {
				t.Fatal(err)
			}
			_, onBranch := b.files()["a"]
			switch {
			case len(list) == 2:
				n = list[0].Number
				p := b.state(n, list[0].State)
				if (p.State == Landed) != onBranch {
					t.Errorf("%s step %d: proposal is %s, on the branch: %v", how, step, p.State, onBranch)
				}
				if slices.Contains([]string{"approve", "land"}, acknowledged) && p.State == Open || acknowledged == "land" && p.State != Landed {
					t.Errorf("%s step %d: %s was acknowledged, and the proposal is %s", how, step, acknowledged, p.State)
				}
			case acknowledged != "" || onBranch:
				t.Errorf("%s step %d: the proposal is lost after %s", how, step, acknowledged)
			default:
				n = b.propose("alice", map[string]string{"a": "1\n"})
			}
			if len(b.Damaged()) > 0 {
				t.Errorf("%s step %d: damaged: %v", how, step, b.Damaged())
			}
			if onBranch {
				landed++
			} else {
				b.mustApprove(n, "bob")
				b.land(n)
			}
			if diff := cmp.Diff(map[string]string{"a": "1\n", "b": "1\n"}, b.files()); diff != "" {
				t.Errorf("%s step %d: files (-want +got):\n%s", how, step, diff)
			}
			log, _, err := b.Log(ctx, repo.Hash{}, "", 10)
			if err != nil || len(log) != 3 {
				t.Errorf("%s step %d: landings %v, %v", how, step, log, err)
			}
			if got := b.git("rev-parse", headRef(n)); got != b.state(n, Landed).Head.String() {
				t.Errorf("%s step %d: head is %s", how, step, got)
			}
			b.fsck()
			b.repo.Close()
			if !dead {
				break
			}
			died++
		}
		t.Logf("killed %s at %d steps, landed by then at %d", how, died, landed)
		if died < 5 {
			t.Errorf("killed %s at %d steps only", how, died)
		}
	}
}

// TestNotNoted has the proposal's log be behind the branch, as after a crash between.
func TestNotNoted(t *testing.T) {
	b := newBench(t, "")
	n := b.propose("alice", map[string]string{"a": "1\n"})
	b.mustApprove(n, "bob")
	approved := b.git("rev-parse", logRef(n))
	other := b.propose("alice", map[string]string{"c": "1\n"})
	l := b.land(n)
	b.git("update-ref", logRef(n), approved)
	b.open(nil)
	if p := b.state(n, Landed); p.Landed != l.Commit || p.Events[len(p.Events)-1].Who != "lander" {
		t.Errorf("%+v", p)
	}
	b.state(other, Open)
}

// large makes a repository of 10,000 files in 100 folders, with a policy.
func large(tb testing.TB) map[string]string {
	tb.Helper()
	files := map[string]string{"OWNERS": "path /** bob\npath /bulk/7/ bob carol\nzone example.net bob\n"}
	for i := range 10_000 {
		files[fmt.Sprintf("bulk/%d/zone-%d.star", i%100, i)] = fmt.Sprintf("zone(\"z%d.example.net\")\n%s", i, strings.Repeat("record(\"www\", \"A\", \"192.0.2.1\")\n", 10))
	}
	return files
}

// BenchmarkLand lands changes of one file each in a repository of 10,000 files and 1,000
// past landings. Proposals and approvals are not in the time.
func BenchmarkLand(b *testing.B) {
	dir := b.TempDir()
	c := &bench{t: b, dir: dir + "/config.git", clock: &clock{now: time.Now()}, planner: &planner{}}
	c.cfg = Config{Planner: c.planner, Now: c.clock.Now}
	c.open(nil)
	defer func() { c.repo.Close() }()
	c.do("alice", large(b))
	ready := func(i int) int {
		n := c.propose("alice", map[string]string{fmt.Sprintf("bulk/%d/zone-%d.star", i*7%100, i*7%100+100*(i%100)): fmt.Sprintf("changed %d\n", i)})
		c.mustApprove(n, "bob")
		return n
	}
	for i := range 1000 {
		c.land(ready(i))
		if i%200 == 199 {
			if err := c.repo.Maintain(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Logf("opened with %s", timed(func() { c.open(nil) }))
	var took []time.Duration
	var cpu time.Duration
	i := 1000
	for b.Loop() {
		b.StopTimer()
		n := ready(i)
		i++
		b.StartTimer()
		before := processor(b)
		took = append(took, timed(func() { c.land(n) }))
		cpu += processor(b) - before
	}
	b.ReportMetric(float64(cpu.Microseconds())/1000/float64(len(took)), "cpu-ms/landing")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "landings/s")
}

// processor is the processor time of this process and of the git commands that have
// ended.
func processor(b *testing.B) time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
