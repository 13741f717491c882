/* The registry: servers register, renew and deregister. */
namespace go registryapi

include "answer.thrift"

/**
 * Registration asks for a server to be in the fleet. Registering again with the
 * same data changes nothing; with other data replaces all of it.
 */
struct Registration {
  /** Domain name, final dot optional: web1.example.net */
  1: string name
  /** IPv4 and IPv6 addresses in text; at least one, none twice. */
  2: list<string> addresses
  3: string role
  4: string site
  /** Empty means <role>.<site>. */
  5: string cluster
  /** TTL of the records in seconds; 0 means 3600. */
  6: i32 ttl
  /** Known: port, protocol (tcp, udp, sctp), priority, weight. */
  7: map<string, string> options
  /** Milliseconds until the registration runs out unless renewed; 0: never. */
  8: i64 lease_ms
  /** Who registers, and why; for people, both may be empty. */
  9: string author
  10: string reason
}

/** Server is a registration as the registry keeps it. */
struct Server {
  1: string name
  2: list<string> addresses
  3: string role
  4: string site
  5: string cluster
  6: i32 ttl
  7: map<string, string> options
  /** "call", or "fleet:<file>" for servers of a fleet file. */
  8: string origin
  9: string author
  10: string reason
  /** When it was registered so, unix milliseconds. */
  11: i64 time_ms
  /** When its lease runs out, unix milliseconds; 0 when it has none, and in list_servers and watch_servers, which do not read leases. */
  12: i64 lease_expires_ms
  /** Store revision of the node. */
  13: i64 revision
}

/** Lease says when a registration runs out unless it is renewed. */
struct Lease {
  1: i64 expires_ms
  2: i64 ttl_ms
}

/** Filter chooses servers; an empty field is no condition. */
struct Filter {
  1: string role
  2: string site
  3: string cluster
}

/**
 * ServerPage is one page; pass next_after as after for the next one, "" is the end.
 * Watching from the first page's revision misses nothing.
 */
struct ServerPage {
  1: list<Server> servers
  2: string next_after
  3: i64 revision
}

/**
 * ServerEvents is what changed after the revision asked for. With reset, put is
 * all servers there are, and what the caller knew is void.
 */
struct ServerEvents {
  1: i64 revision
  2: bool reset
  3: list<Server> put
  4: list<string> removed
}

/** Outcome is what became of one item of register_servers. */
struct Outcome {
  1: string name
  /** Unset when refused is set. */
  2: optional answer.Change change
  /** Code, message and hint as in answer.Refused; code is empty when all is well. */
  3: string code
  4: string message
  5: string hint
}

service Registry {
  answer.Change register_server(1: Registration registration) throws (1: answer.Refused refused)

  /**
   * Many at once, in few store transactions. One item's refusal does not touch
   * the others. outcomes[i] belongs to registrations[i]. At most 10000 items.
   */
  list<Outcome> register_servers(1: list<Registration> registrations) throws (1: answer.Refused refused)

  /**
   * A server that went lately, as far as this process remembers, is no error but a
   * change that changed nothing: the answer to the first call may have been lost.
   */
  answer.Change deregister_server(1: string name, 2: string author, 3: string reason) throws (1: answer.Refused refused)

  /** Renew the lease of a server that registered with one. */
  Lease renew(1: string name) throws (1: answer.Refused refused)

  Server get_server(1: string name) throws (1: answer.Refused refused)

  /** Servers ordered by cluster and name. limit 0 means 1000, at most 10000. */
  ServerPage list_servers(1: string after, 2: i32 limit, 3: Filter filter) throws (1: answer.Refused refused)

  /**
   * Wait until something changes after revision since (0: answer at once with
   * all servers) or timeout_ms (at most 60000) passed; then events may be empty.
   * Refused with too_many where a reset would have over 50000 servers: page
   * through list_servers then, and watch from its revision.
   */
  ServerEvents watch_servers(1: i64 since, 2: i32 timeout_ms) throws (1: answer.Refused refused)
}
