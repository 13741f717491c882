/**
 * The types that come with zonecast. Load them from "//zonecast.thrift"; the
 * functions of "//zonecast.star" make most of them shorter.
 */
namespace * zonecast

/** Seconds (RFC 2181, section 8). */
typedef i32 TTL (min = "0", max = "2147483647")

/** A number of 32 bits without sign. */
typedef i64 Unsigned (min = "0", max = "4294967295")

/**
 * Records of one owner and type. What is exported within a Zone or Records becomes
 * a claim of the source config/<path>.
 */
struct RecordSet {
  /** Relative to the zone, "@" for its apex, or absolute with a final dot. */
  1: required string name
  /** A mnemonic such as AAAA, or TYPEnnn. */
  2: required string type
  /** Missing: that of the zone. */
  3: optional TTL ttl
  /** RDATA in presentation form; relative names in it are completed with the zone's. */
  4: required list<string> data (length = "1..")
  /** For which clients the records are; missing: for all. */
  5: optional string location (length = "1..63", pattern = "[!-~]+")
  /**
   * Of A and AAAA: the weight of each element of data, by which some are chosen; 0 is chosen
   * when all have 0. Missing: 1 each.
   */
  6: optional list<Unsigned> weights (length = "1..")
  /** Of A and AAAA: how many are answered at most, chosen at each query; missing: all. */
  7: optional i32 most (min = "1", max = "65535")
}

/** The start of authority. The serial that is answered grows by itself. */
struct SOA {
  /** The primary name server. */
  1: required string primary
  /** The responsible person's mailbox as a name: hostmaster.example.net. */
  2: required string mailbox
  3: Unsigned serial = 1
  4: Unsigned refresh = 43200
  5: Unsigned retry_after = 7200
  6: Unsigned expire = 1209600
  7: Unsigned minimum = 3600
  8: optional TTL ttl
}

/** A zone, whole. */
struct Zone {
  1: required string origin
  2: required SOA soa
  /** Of record sets that have none. */
  3: TTL ttl = 3600
  4: list<RecordSet> records = []
}

/** Records in zones that others make. */
struct Records {
  /** What relative names are completed with. */
  1: required string origin
  2: TTL ttl = 3600
  3: required list<RecordSet> records (length = "1..")
}

/** Kinds of sources of claims. */
enum SourceKind {
  OVERRIDE = 1
  CONFIG = 2
  ZONE = 3
  MAP = 4
  UPDATE = 5
  RULE = 6
}

/** Which claims unite instead of conflicting. */
struct Merge {
  /** Missing: every kind but OVERRIDE. */
  1: optional SourceKind kind
  /** A name, or *.x for every name below x; missing: every name. */
  2: optional string owner
  /** Missing: every type. */
  3: optional string type
}

/** Which claims hold. */
struct Policy {
  /** The highest first. */
  1: list<SourceKind> precedence = [
    SourceKind.OVERRIDE, SourceKind.CONFIG, SourceKind.ZONE, SourceKind.MAP, SourceKind.UPDATE, SourceKind.RULE
  ] (length = "6")
  2: list<Merge> merge = []
  3: TTL min_ttl = 0
  4: TTL max_ttl = 2147483647
}

/** A point of presence: a site that serves users outside. */
struct PoP {
  1: required string name (pattern = "[a-z0-9][a-z0-9-]*", length = "1..63")
  2: required list<string> addresses (length = "1..")
  /** Users at the same time; missing: unknown. */
  3: optional i64 capacity (min = "1")
  /** Drained: serves nobody new. */
  4: bool drained = false
  5: optional double latitude (min = "-90", max = "90")
  6: optional double longitude (min = "-180", max = "180")
}

/** A service address that several hosts announce. */
struct VIP {
  1: required string name (pattern = "[a-z0-9][a-z0-9.-]*", length = "1..253")
  2: required list<string> addresses (length = "1..")
  /** Of the hosts that announce it so many stay, whatever their checks say. */
  3: i32 floor_hosts = 1 (min = "0")
  /** And so many of 100. */
  4: double floor_percent = 0 (min = "0", max = "100")
}

/**
 * Hosts, and the datasets that they carry (docs/datasets.md). Exported as groups/NAME it is the
 * group NAME.
 */
struct Group {
  /** Names with * and ?, KEY=VALUE (a label of the host) or share:N%. */
  1: required list<string (length = "1..200")> hosts (length = "1..")
  /** In this order: of a zone that is in two, the first answers. */
  2: required list<string (length = "1..63")> datasets (length = "1..64")
}

/** A rule that makes claims out of servers, and what it needs to know. */
struct Rule {
  1: required string name (pattern = "[a-z0-9][a-z0-9-]*", length = "1..63")
  2: bool enabled = true
  3: map<string (length = "1..255"), string> parameters = {}
}
