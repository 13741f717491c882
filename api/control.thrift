/* Control: the side of zonecast that people talk to. */
namespace go controlapi

include "answer.thrift"

/** HostState is what one DNS host answers of one dataset. */
struct HostState {
  1: string name
  /** address:port of its DNS service. */
  2: string dns
  3: i64 version
  /** Hex. */
  4: string digest
  /** Milliseconds since the presenter made the version it answers; -1: unknown. */
  5: i64 age_ms
  /** Last thing the host refused and why; empty when nothing. */
  6: string refused
  /** What operators put on top of the dataset on this host, in words. */
  7: list<string> direct
}

struct DatasetState {
  1: string name
  2: i64 version
  3: string digest
  /** The last version that changed more than the freshness record. */
  4: i64 content
  /** When the version was made, unix milliseconds. */
  5: i64 time_ms
  6: list<HostState> hosts
  /** RRsets; -1 while the process has not read the dataset yet. */
  7: i64 records
}

struct SourceState {
  1: string source
  2: string where
  3: string revision
  4: i64 records
  5: i64 time_ms
  /** Why the newest state of the source is not in force; empty when all is well. */
  6: string error
  /** Store revision of this state, for wait with kind "claims". */
  7: i64 store_revision
  /** When error began to be not empty; 0 when it is empty or that is not known. */
  8: i64 since_ms
  /** For how many servers, clusters and groups a rule fails, whose last good claims stay; 0
      when error is about the rule itself. */
  9: i64 failing
}

struct ServiceState {
  1: string name
  2: string id
  3: string api
  4: string http
}

struct Status {
  1: list<DatasetState> datasets
  2: list<SourceState> sources
  3: i64 conflicts
  4: list<ServiceState> services
}

/** RecordSet is one RRset in text. */
struct RecordSet {
  /** With the final dot. */
  1: string owner
  2: string type
  /** Seconds. */
  3: i64 ttl
  /** Empty: for everybody. */
  4: string location
  /** Presentation form, one element a record, canonical order. */
  5: list<string> rdata
}

struct Records {
  1: i64 version
  2: list<RecordSet> records
}

struct Claim {
  1: string owner
  2: string type
  3: i64 ttl
  4: list<string> rdata
  5: string location
  6: string source
  7: string author
  8: string reason
  9: i64 time_ms
  10: string revision
  11: string place
  /** wins, agrees, united, loses, yields or waits (held, frozen or pinned); the list may grow. */
  12: string verdict
  /** The rule that decided, in words. */
  13: string rule
}

struct Explanation {
  1: i64 version
  2: string owner
  3: list<Claim> claims
  4: list<string> notes
}

/** A PoP in the order of a location; records tells whether it has some of the name and type. */
struct SteerPoP {
  1: string name
  2: string state
  3: bool records
}

/** What a map says of a client. kind is "by subnet" or "by resolver"; prefix is the one that matched, "" for none. */
struct SteerMap {
  1: string map_name
  2: string kind
  3: string prefix
  4: string location
  5: list<SteerPoP> order
  6: bool private_network
}

/** How a client is answered: by the first of maps that has a location. pop is "" for the records of everybody. */
struct Steering {
  1: i64 version
  2: string owner
  3: string type
  4: list<SteerMap> maps
  5: string pop
  6: bool last_resort
  7: i64 ttl
  8: list<string> rdata
  9: i32 scope
  10: list<string> notes
}

struct Conflict {
  1: string owner
  2: string type
  3: string location
  4: string kind
  5: Claim winner
  6: Claim loser
  7: string rule
  /** All of it in one sentence. */
  8: string text
}

/** ConflictPage is one page; pass next_after as after for the next one, "" is the end. */
struct ConflictPage {
  1: list<Conflict> conflicts
  2: string next_after
  3: i64 total
}

struct MissingHost {
  1: string host
  /** The version it answers. */
  2: i64 version
}

struct Arrival {
  /** The version that has the change; 0 when there is none yet. */
  1: i64 version
  2: i64 milliseconds
  /** Live hosts that answer it. */
  3: i32 hosts
  4: list<MissingHost> missing
  /** Whether every live host answers it. */
  5: bool done
  /** When not done: what is being waited for, in words. */
  6: string stage
}

/**
 * ExportPage is one page of a dataset in canonical order; next_after is "" at the end.
 * All pages of one export must say the same version: otherwise start again.
 */
struct ExportPage {
  1: i64 version
  2: string digest
  3: list<RecordSet> records
  4: string next_after
}

/** Who is who does something, and why; both at most 1024 octets of UTF-8, author not empty. */
struct Doer {
  1: string author
  2: string reason
  /**
   * What is done, signed by the author (internal/operator); needed where operators are
   * given (--control-operators), and not read otherwise.
   */
  3: binary signed_act
}

/** Override is an RRset that a person has put above everything. */
struct Override {
  1: string id
  2: RecordSet record
  3: i64 set_ms
  /** When it ends by itself, unix milliseconds. */
  4: i64 until_ms
  5: string author
  6: string reason
  /** Address the call came from. */
  7: string from_address
  /** Who else claims something there that is not answered because of it, in words. */
  8: list<string> hides
}

/** Done is what a person's action did. */
struct Done {
  1: answer.Change change
  /** Id of what was made or ended. */
  2: string id
  /** What it did, in words; the first line is a sentence. */
  3: list<string> text
}

/** Cause is a source whose claims changed, and who brought the newest of what it claims there. */
struct Cause {
  1: string source
  2: string author
  3: string reason
  4: string revision
  /** Id of the hold that a person let through, if it was one. */
  5: string released
}

/** VersionInfo is a version that changed content. */
struct VersionInfo {
  1: i64 version
  2: i64 time_ms
  /** RRsets. */
  3: i64 created
  4: i64 replaced
  5: i64 removed
  /** Whose claims changed; some of them when there are many. */
  6: list<Cause> causes
  7: i64 other_causes
  /** The version at whose content it was held; 0: at none. */
  8: i64 pinned
  /** Some of the RRsets that changed: "www.example.net. A". */
  9: list<string> keys
}

/** History is the newest versions first. */
struct History {
  1: list<VersionInfo> versions
  /** How many can be gone back to in all, and the oldest of them. */
  2: i64 kept
  3: i64 oldest
}

/** Difference is one RRset that two versions have otherwise; an empty list is none. */
struct Difference {
  1: list<RecordSet> before
  2: list<RecordSet> after
}

/** Example is a question of the live traffic that would be answered otherwise. */
struct Example {
  1: string name
  2: string type
  /** Of all queries, 0 to 1. */
  3: double share
  /** In words. */
  4: string before
  5: string after
  /** As in KindShare. */
  6: string kind
}

/**
 * KindShare is in what way answers differ, and in which part of all queries, 0 to 1. The
 * kinds are what an answer becomes: nxdomain, nodata, refused, failure, referral, alias
 * (leads out of the zones here), answer (there was none), data (another one), ttl (nothing
 * but a TTL differs).
 */
struct KindShare {
  1: string kind
  2: double share
}

/** Effect is what a change does to the live traffic, as far as hosts sampled it. */
struct Effect {
  /** Queries that were drawn and asked before and after; 0: nothing is known, see unknown. */
  1: i64 sampled
  2: i32 hosts
  /** Of the queries between these, in unix milliseconds; and about how many there were. */
  3: i64 since_ms
  4: i64 until_ms
  5: i64 queries
  /** Of the queries that would be answered otherwise, 0 to 1; with 95 % it is between low and high. */
  6: double share
  7: double low
  8: double high
  /** The largest shares first. */
  9: list<KindShare> kinds
  10: list<Example> examples
  /** Questions that would be answered otherwise and are not among the examples. */
  11: i64 more
  /** Of the queries that ask for names which are not there, 0 to 1. */
  12: double no_name
  /** Why nothing is known, in words. */
  13: string unknown
}

struct Diff {
  /** In canonical order, at most as many as were asked for. */
  1: list<Difference> differences
  2: i64 created
  3: i64 replaced
  4: i64 removed
  /** What it does to the live traffic to go from the one to the other. */
  5: Effect effect
}

/** Pinned is a dataset held at an earlier version's content; version 0: it is not. */
struct Pinned {
  1: i64 version
  2: i64 set_ms
  3: string author
  4: string reason
  5: string from_address
}

/** Hold is a source's change that waits for a person. */
struct Hold {
  1: string id
  2: string source
  3: i64 since_ms
  /** Sentences: what the change would do, and why it waits. */
  4: list<string> why
  /** RRsets. */
  5: i64 created
  6: i64 replaced
  7: i64 removed
  /** Empty, "release" or "drop". */
  8: string decision
  /** What the change would do to the live traffic. */
  9: Effect effect
}

/** Ring is some of the hosts, which get a version after those of the rings before. */
struct Ring {
  1: string name
  /** How long its hosts answer a trial before the next ring gets it. */
  2: i64 soak_ms
  /** What selects its hosts: a name, KEY=VALUE or share:N%. */
  3: list<string> hosts
  /** Those that are live now, by name: the first 100; and how many there are. */
  4: list<string> live
  5: i64 live_count
}

/** Trial is a change that rings of hosts try before all hosts have it. */
struct Trial {
  1: string id
  2: string source
  3: i64 since_ms
  /** Then it is held, when it is not through. */
  4: i64 until_ms
  /** RRsets. */
  5: i64 created
  6: i64 replaced
  7: i64 removed
  8: string author
  9: string reason
  /** Why it is tried. */
  10: string why
  /** The ring that it is offered to, and those before; empty: nobody judges it yet. */
  11: string ring
  /** offered, soaking, passed, withdrawn; the list may grow. Empty: nobody judges it yet. */
  12: string state
  13: i64 state_since_ms
  /** What it waits for, in words. */
  14: string text
  15: list<string> evidence
  /** Hosts that have answered it. */
  16: list<string> answered
  /** What hosts say that do not answer it and should. */
  17: list<string> refused
}

/** Rings is the policy of rings and what is tried. */
struct Rings {
  /** In the order in which they get a version; empty: nothing is tried. */
  1: list<Ring> rings
  2: optional Trial trial
  /** Sources whose changes are tried next. */
  3: list<string> queued
  /** Kinds of sources, or sources, whose changes are tried. */
  4: list<string> sources
  /** RRsets from which on the change of any source is tried; 0: never. */
  5: i64 large
}

/** Freeze stops the changes of sources. */
struct Freeze {
  1: string id
  /** A source, or a kind with "/" and "*" behind it; empty: every source but overrides. */
  2: string source
  3: i64 since_ms
  4: string author
  5: string reason
  6: string from_address
}

/** Expectation is a mass change that a person announced: guards do not count it. */
struct Expectation {
  1: string id
  /** With the final dot; empty: every zone. */
  2: string zone
  /** Empty: every source. */
  3: string source
  /** RRsets announced. */
  4: i64 removals
  5: i64 replacements
  6: i64 creations
  /** RRsets that may still come. */
  7: i64 left_removals
  8: i64 left_replacements
  9: i64 left_creations
  10: i64 set_ms
  /** When it ends by itself, unix milliseconds. */
  11: i64 until_ms
  12: string author
  13: string reason
  14: string from_address
}

/** AuditEntry is one thing that a person did, or that followed from it, or a version. */
struct AuditEntry {
  1: i64 time_ms
  2: string action
  3: string subject
  4: string text
  5: string author
  6: string reason
  7: string from_address
}

/** AuditPage is one page, oldest first; pass next_after as after for the next one, "" is the end. */
struct AuditPage {
  1: list<AuditEntry> entries
  2: string next_after
}

/** VipHost is what a host does with a VIP. */
struct VipHost {
  1: string host
  /** Prefixes that it announces. */
  2: list<string> addresses
  /** up, degraded, draining, down or held; the list may grow. */
  3: string state
  4: bool announced
  5: i64 since_ms
  /** Of its checks: unknown, good, stale, bad or dead. */
  6: string health
  /** Why it is so, in words. */
  7: string why
  /** What a person wants of it, as it has heard; empty: nothing. */
  8: string order
  /** Its routers, and how the sessions are. */
  9: list<string> sessions
  /** It has a lease of the floor: others do not count on it. */
  10: bool leased
  /** How many hosts have to stay, as it counts, and in percent of all. */
  11: i32 keep
  12: i32 keep_percent
}

/** VipOrder is what a person wants of a host; host "" means all of the VIP. */
struct VipOrder {
  1: string host
  /** drain, hold, up or down. */
  2: string order
  3: i64 since_ms
  4: string author
  5: string reason
  6: string from_address
}

struct VipState {
  1: string vip
  2: list<VipHost> hosts
  3: list<VipOrder> orders
}

/** MapState is a map of the published dataset. */
struct MapState {
  1: string name
  2: i64 prefixes
  /** Locations with an order of PoPs. */
  3: i64 orders
  /** RRsets that the prefixes are in. */
  4: i64 blocks
  /** The names that it holds for, in words: "www.example.net. by subnet". At most 1000. */
  5: list<string> uses
  6: i64 use_count
  /** The file that map/<name> was taken from, or what made it, and when; empty when that is not known. */
  7: string where
  8: i64 time_ms
}

/** MapPage is a part of a map's content; next_after is "" at the end. */
struct MapPage {
  1: i64 version
  /** RRsets as internal/mapclaims has them, without those of names. */
  2: binary content
  3: string next_after
}

service Control {
  Status status() throws (1: answer.Refused refused)

  /** type "" means all types. */
  Records get_records(1: string name, 2: string type) throws (1: answer.Refused refused)

  Explanation why(1: string name, 2: string type) throws (1: answer.Refused refused)

  /**
   * How a client is answered that asks for name and type from the address resolver, on behalf
   * of the address or prefix client; one of the two may be "".
   */
  Steering steer(1: string client, 2: string resolver, 3: string name, 4: string type) throws (1: answer.Refused refused)

  ConflictPage conflicts(1: string after, 2: i32 limit) throws (1: answer.Refused refused)

  /**
   * Wait until every live host answers what a change made: kind is "servers" for
   * a revision of the registry, "claims" for one of import_zone, "override" for one of
   * an override, "version" for a version itself. Revision 0 is what is there now, as
   * far as it was read here. timeout_ms is at most 60000; the answer then has
   * done = false and says who is missing.
   */
  Arrival wait(1: i64 revision, 2: string kind, 3: string dataset, 4: i32 timeout_ms) throws (1: answer.Refused refused)

  ExportPage export_records(1: string dataset, 2: string after, 3: i32 limit) throws (1: answer.Refused refused)

  /**
   * Take a zone file's content as source zone/import/<file>; it replaces what that
   * source claimed before, and empty content takes it away. The file's name says the
   * zone's unless $ORIGIN in it does. At most as large as one call may be.
   */
  answer.Change import_zone(1: string file, 2: binary content, 3: Doer doer) throws (1: answer.Refused refused)

  /**
   * Take a map, and the RRsets of its names, as source map/<name>; it replaces what that
   * source claimed before, and empty content takes it away. content is as
   * internal/mapclaims.Encode gives it; file is where it comes from, for people. It is refused
   * when one of pops, those that the map names, is neither a PoP nor in add_pops, which are
   * made before, with capacity 0.
   */
  answer.Change import_map(1: string name, 2: string file, 3: binary content, 4: Doer doer, 5: list<string> pops, 6: list<string> add_pops) throws (1: answer.Refused refused)

  /** The names of all PoPs, in order. */
  list<string> pops() throws (1: answer.Refused refused)

  /** The maps of the published dataset, by name. */
  list<MapState> maps() throws (1: answer.Refused refused)

  /** A map of the published dataset; after is "" for its beginning. NotFound when there is none. */
  MapPage map_content(1: string name, 2: string after) throws (1: answer.Refused refused)

  /**
   * Put an RRset above everything for for_ms, 1 s to 30 days. An override of the same
   * name and type is replaced. Refused: what is in no zone; what would not be answered;
   * what cannot stand beside the other types of the name (CNAME), unless whole_name.
   */
  Done set_override(1: RecordSet record, 2: i64 for_ms, 3: bool whole_name, 4: Doer doer) throws (1: answer.Refused refused)

  list<Override> overrides() throws (1: answer.Refused refused)

  Done clear_override(1: string id, 2: Doer doer) throws (1: answer.Refused refused)

  /** What people did since a time, unix milliseconds; with every version that changed content, when versions. */
  AuditPage audit(1: i64 since_ms, 2: string after, 3: i32 limit, 4: bool versions) throws (1: answer.Refused refused)

  /** limit is at most 10000; 0 means 20. */
  History history(1: i32 limit) throws (1: answer.Refused refused)

  /** What differs in the content of two versions; 0 is what is published now. limit as for pages. */
  Diff diff(1: i64 before, 2: i64 after, 3: i32 limit) throws (1: answer.Refused refused)

  /**
   * Publish the content of an earlier version again and hold the dataset there until
   * release; overrides pass. Refused when there is no way back to it. change.revision is
   * the version that has it, for wait with kind "version"; changed is false when no
   * presenter has made it within five seconds: it will be made by the next one.
   */
  Done rollback(1: i64 version, 2: Doer doer) throws (1: answer.Refused refused)

  Pinned pinned() throws (1: answer.Refused refused)

  /** End what rollback began: what is claimed by now is published. As rollback. */
  Done release_pin(1: Doer doer) throws (1: answer.Refused refused)

  list<Hold> holds() throws (1: answer.Refused refused)

  /**
   * Let a held change through (decision "release") or keep it out until its source says
   * something else ("drop"). Refused when the change is no longer what the id says.
   */
  Done decide(1: string id, 2: string decision, 3: Doer doer) throws (1: answer.Refused refused)

  Rings rings() throws (1: answer.Refused refused)

  /**
   * Make a trial a version now (decision "pass"), or a hold ("withdraw"). Refused when it is not
   * tried any more.
   */
  Done decide_trial(1: string id, 2: string decision, 3: Doer doer) throws (1: answer.Refused refused)

  /** Stop the changes of a source, of a kind of sources, or of all: see Freeze. */
  Done freeze(1: string source, 2: Doer doer) throws (1: answer.Refused refused)

  list<Freeze> freezes() throws (1: answer.Refused refused)

  Done thaw(1: string id, 2: Doer doer) throws (1: answer.Refused refused)

  /**
   * Announce a mass change of a zone, a source or both, so that guards let it through: as
   * many RRsets, for for_ms, 1 s to 7 days. Id, set_ms, until_ms, what is left and who are
   * not read. What is always held is held nevertheless.
   */
  Done expect(1: Expectation expectation, 2: i64 for_ms, 3: Doer doer) throws (1: answer.Refused refused)

  list<Expectation> expectations() throws (1: answer.Refused refused)

  Done unexpect(1: string id, 2: Doer doer) throws (1: answer.Refused refused)

  list<VipState> vips() throws (1: answer.Refused refused)

  /**
   * Say what a host is to do with a VIP until it is taken back: "drain" (go gracefully, and stay
   * away), "hold" (robots change nothing), "up" (announce whatever checks say), "down" (do not
   * announce, whatever the floor says); "" takes it back. host "" means all hosts that have no
   * order of their own; of them only "hold" and "" are taken.
   */
  Done order_vip(1: string vip, 2: string host, 3: string order, 4: Doer doer) throws (1: answer.Refused refused)
}
