// Package tap gives a sample of what a server answers to a collector, as dnstap
// (dnstap.info) in Frame Streams: over a unix or TCP socket, or into a file. Of some names
// nothing is left out: what is asked for below them is taken always.
//
// Invariant: Take and Record never wait for the collector or the disk and allocate
// nothing for a message of up to 4096 octets; memory is bounded by the queue,
// whatever the collector does, and the disk that files take by their size and number;
// each message that was recorded is counted once Run has ended, as written or as lost.
//
// In: responses as they were sent, and queries that got none, from the workers. Out:
// AUTH_RESPONSE and AUTH_QUERY messages, and counters.
package tap

// Why a lock and a stack of free slots and not a ring for each worker: only the
// sampled messages come here, one in 64, and the lock is held for a handful of
// instructions. A stack gives the slot that was used last, which is still in the
// cache; a ring would walk through all of its memory, and that memory would be
// resident even when no more than two messages ever wait.
//
// Why the gap between two sampled messages is random: workers answer batches of 32.
// Each 64th would always be the last of its batch, and each 64th of a client that
// asks in turns would always be the same question.
