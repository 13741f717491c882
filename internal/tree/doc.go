// Package tree is the layout of the store (DESIGN §4): its paths, and the JSON of
// the small nodes in it. Stages meet here and nowhere else.
//
// Invariant: every path in the store is made by a function of this package, and
// every small node is decoded strictly (unknown fields are errors in tests, and
// ignored in production so that versions can differ during an upgrade).
//
//	/servers/<cluster>/<name>              fleet.Server as JSON
//	/leases/<name>                         Lease: when a registration runs out
//	/index/name/<name>                     path of the server's node
//	/index/address/<address>               name of the server that owns the address
//	/claims/<source>/<shard>               record claims, see docs/format/claims.md
//	/sources/<source>                      Source: state of one source, errors included
//	/failures/<source>/<shard>             Failure: where a rule fails
//	/progress/mutator                      Progress
//	/datasets/<name>/head                  Head, written by the presenter by compare-and-set
//	/datasets/<name>/out/log/<version>     Delta, or a pointer to its parts
//	/parts/<dataset>/<version>/<n>         parts of a delta too large for one node
//	/datasets/<name>/out/manifest          snapshot.Manifest, signed by the publisher
//	/datasets/<name>/out/files             its list of files: snapshot, large deltas
//	/hosts/<host>                          Host, ephemeral
//	/revocations/<key>                     a line by which a key revokes itself (internal/trust)
//	/trust/<dataset>/<host>                Trust, ephemeral: whom the host believes
//	/services/<name>/<id>                  Service, ephemeral: where a process listens
//	/overrides/<id>                        Override; its claim is /claims/override/<id>/0
//	/admitted/<dataset>/<source>/<shard>   what of /claims/ is in force: as there
//	/holds/<id>                            Hold: a source's change that waits for a person
//	/freezes/<id>                          Freeze
//	/pins/<dataset>                        Pin: held at an earlier version's content
//	/history/<dataset>/<version>           History, and /undo/<dataset>/<version>/<n>
//	/audit/<time>-<id>                     AuditEntry: what people did
//	/vips/<vip>/<host>                     VIPHost, ephemeral; /vips/<vip>/@floor: VIPFloor
//	/viporders/<vip>/<host>                VIPOrder; of @all: for every host
//	/pops/<pop>                            PoP; its claim is /claims/map/pops/<pop>
//	/config/<path>                         ConfigEntry and a small value, see docs/format/config.md
//	/config/@head                          ConfigHead; /config/@staged/<version>/<n>: a landing's chunks
//	/configparts/<sha256>/<n>              parts of large values; /configmarks/<sha256>: ConfigMark
//	/elect/<what>                          leadership
package tree
