/* Configuration as code: what is landed, proposals, review and landing (docs/review.md). */
namespace go configapi

include "answer.thrift"

/**
 * Repository is where the configuration is. tip is the commit that counts (40 hexadecimal
 * digits; empty: there is none yet). trouble is why nothing newer counts: a branch that was
 * rewritten by force (found is what it was rewritten to), a remote that cannot be reached.
 * problem is why the tip is not in force, landed the commit that was looked at last.
 */
struct Repository {
  1: string id
  2: string branch
  3: string remote
  4: string tip
  5: string trouble
  6: string found
  7: string landed
  8: string problem
}

/** File is a file of a commit. hash is git's name of its content, 40 hexadecimal digits. */
struct File {
  1: string path
  2: string hash
  3: i64 size
}

/** Tree is a page of a commit's files, sorted by path; pass rest as after for the next one, "" is the end. */
struct Tree {
  1: string commit
  2: list<File> files
  3: string rest
}

/** Edit is a file's new content, or that it goes. */
struct Edit {
  1: string path
  2: binary content
  3: bool remove
}

/**
 * Act is who does something to a proposal, and why. With operators (--control-operators) it is
 * signed: signature is ed25519 over review.Statement with at_ms, 0 and empty otherwise.
 */
struct Act {
  1: string who
  2: string why
  3: i64 at_ms
  4: binary signature
}

/** Plan is what would change: its digest, and all of it as JSON (internal/plan.Plan), text and Markdown. */
struct Plan {
  1: string digest
  2: bool empty
  3: string json
  4: string text
  5: string markdown
}

struct Event {
  1: i64 at_ms
  2: string who
  3: string what
  4: string why
  5: string head
  6: string plan
}

/** Proposal: state is open, approved, again, landed, rejected or expired; why is its reason. events, oldest first, are empty in lists. */
struct Proposal {
  1: i32 number
  2: string title
  3: string reason
  4: string author
  5: i64 created_ms
  6: i64 changed_ms
  7: string state
  8: string why
  9: string base
  10: string head
  11: i32 reverts
  12: string landed
  13: list<Event> events
}

/** Requirement is what one line of OWNERS asks for, and the owners whose approval counts. */
struct Requirement {
  1: string text
  2: i32 need
  3: list<string> by
  4: bool met
}

/** Look is a proposal as it would land now. changed has the first 1,000 paths. problem, when there is one, is why it cannot; there is no plan then. */
struct Look {
  1: Proposal proposal
  2: string tip
  3: list<string> changed
  4: i32 more
  5: Plan plan
  6: list<Requirement> requirements
  7: string problem
  8: list<string> void_approvals
}

/** Landing is a commit of the branch. number is 0 when it was no proposal. */
struct Landing {
  1: string commit
  2: i32 number
  3: string title
  4: string author
  5: string by
  6: i64 time_ms
  7: list<string> approved
  8: i32 reverts
}

/** LogPage: rest is the commit to go on with, empty at the end. */
struct LogPage {
  1: list<Landing> landings
  2: string rest
}

/** ProposalPage: rest is the number to go on below, 0 at the end. */
struct ProposalPage {
  1: list<Proposal> proposals
  2: i32 rest
}

struct Diff {
  1: string text
  2: bool cut
}

/** The calls that change something give the proposal as it is then; a call that is repeated gives the same or says that it was done. */
service Configuration {
  Repository repository() throws (1: answer.Refused refused)

  /**
   * The files of a commit of the branch behind the path after. An empty commit means the
   * tip; for the pages behind the first one name the commit that it had. limit is at most
   * 10,000, and 0 means as many.
   */
  Tree tree(1: string commit, 2: string after, 3: i32 limit) throws (1: answer.Refused refused)

  /** Contents of at most 1,000 files of a commit, with together at most 16 MiB; those that are not there are left out. */
  list<Edit> contents(1: string commit, 2: list<string> paths) throws (1: answer.Refused refused)

  /** What it would change if these edits of base (empty: the tip) landed now. */
  Plan plan(1: string base, 2: list<Edit> edits) throws (1: answer.Refused refused)

  /** Proposes edits of base, or a commit that was pushed into the repository. */
  Proposal propose(1: Act act, 2: string title, 3: string base, 4: list<Edit> edits, 5: string commit) throws (1: answer.Refused refused)

  Proposal revise(1: i32 number, 2: Act act, 3: string base, 4: list<Edit> edits, 5: string commit) throws (1: answer.Refused refused)

  Look review(1: i32 number) throws (1: answer.Refused refused)

  Proposal comment(1: i32 number, 2: Act act) throws (1: answer.Refused refused)

  /** plan is the digest that the approver has seen. */
  Proposal approve(1: i32 number, 2: Act act, 3: string plan) throws (1: answer.Refused refused)

  Proposal reject(1: i32 number, 2: Act act) throws (1: answer.Refused refused)

  Landing land(1: i32 number, 2: Act act) throws (1: answer.Refused refused)

  /** Proposes the inverse of what a proposal has changed. */
  Proposal revert(1: i32 number, 2: Act act) throws (1: answer.Refused refused)

  Proposal show(1: i32 number) throws (1: answer.Refused refused)

  Diff diff(1: i32 number) throws (1: answer.Refused refused)

  /** Newest first, below a number (0: from the newest), in one of the states (none: in any). */
  ProposalPage proposals(1: i32 below, 2: i32 limit, 3: list<string> states) throws (1: answer.Refused refused)

  /** Newest first, from a commit (empty: the tip) back; with a path what changed there. */
  LogPage log(1: string start, 2: string path, 3: i32 limit) throws (1: answer.Refused refused)

  /**
   * Waits until a commit of the branch, or a later one, is in the store, and gives the
   * store's revision to wait for with kind "claims" (Control.wait). Refused when it does not
   * compile.
   */
  i64 landed(1: string commit, 2: i32 timeout_ms) throws (1: answer.Refused refused)

  /** A branch that was rewritten by force counts from found on. */
  Repository accept(1: string found, 2: Act act) throws (1: answer.Refused refused)

  /** A branch that was moved to found (empty: it was removed) by somebody else goes back to where it was. */
  Repository restore(1: Act act, 2: string found) throws (1: answer.Refused refused)
}
