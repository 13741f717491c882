/* What all services of zonecast answer with. */
namespace go answer

/**
 * Refused is the one exception of every service: nothing was done.
 *
 * Codes; the list only grows, and a client treats a code it does not know like
 * "invalid":
 *
 *   invalid        the request is wrong in itself; trying again is useless
 *   exists         the name belongs to somebody this caller may not replace
 *   address_taken  another server owns one of the addresses
 *   not_found      there is no such server, dataset, name or cursor
 *   unavailable    the store cannot be reached or has no quorum, or the process
 *                  is starting or stopping: try again. Whether a change happened
 *                  is not known; repeating it is safe, since changes are idempotent
 *   too_many       a bound was reached: connections, items of a call, octets
 *   denied         the caller may not do this, or did not sign it as an operator
 *   timeout        the caller's deadline or the server's own bound passed
 *   conflict       what others did meanwhile does not go together with it
 *   changed        what was agreed to is not what would happen: look again
 *   unapproved     approvals are missing
 */
exception Refused {
  1: string code
  2: string message
  3: string hint
}

/**
 * Change is what a change did. revision is the store's revision that holds it:
 * whoever waits until a dataset has this revision sees the change. changed is
 * false when all was as asked already; revision is then good to wait for, too.
 */
struct Change {
  1: i64 revision
  2: bool changed
}
