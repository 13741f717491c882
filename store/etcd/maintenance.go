package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// upkeep is how the server keeps its files bounded.
type upkeep struct {
	// quota is how large the database may grow, in bytes, before the server takes no
	// more writes.
	quota int64
	// keep is how many revisions of history stay for watches that reconnect.
	keep int64
	// every is how often history is cut and the quota looked at. Between two rounds a
	// burst may add what it likes; etcd's own compaction comes every 5 minutes only.
	every time.Duration
}

// defaultUpkeep: a million servers with their claims are about 2 GiB, and etcd
// advises a quota of at most 8 GiB. 10,000 revisions are a quarter of an hour at 10
// commits a second: at the usual few KiB each some tens of MiB, at MaxTxnBytes each
// all of the quota, which relieve then gets back.
func defaultUpkeep() upkeep {
	return upkeep{quota: 8 << 30, keep: 10_000, every: 30 * time.Second}
}

// maintain cuts history until ctx ends or the server stops by itself.
func maintain(ctx context.Context, e *embed.Etcd, up upkeep, log *slog.Logger) error {
	tick := time.NewTicker(up.every)
	defer tick.Stop()
	var compacted int64
	for {
		if err := relieve(ctx, e, up.quota, log); err != nil && ctx.Err() == nil {
			log.Error("store is over its quota and takes no writes", "error", err)
		}
		if oldest := e.Server.KV().Rev() - up.keep; oldest > compacted {
			_, err := e.Server.Compact(ctx, &pb.CompactionRequest{Revision: oldest})
			if err != nil && !errors.Is(err, mvcc.ErrCompacted) && ctx.Err() == nil {
				log.Warn("store history not cut", "revision", oldest, "error", err)
			}
			compacted = oldest
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-e.Err():
			return err
		case <-e.Server.StopNotify():
			return errors.New("the server stopped by itself")
		case <-tick.C:
		}
	}
}

// relieve ends the state in which etcd takes no writes, since its database has
// reached the quota, when cutting all history makes enough room. etcd itself never
// leaves that state.
func relieve(ctx context.Context, e *embed.Etcd, quota int64, log *slog.Logger) error {
	full := false
	for _, a := range e.Server.Alarms() {
		full = full || a.Alarm == pb.AlarmType_NOSPACE
	}
	if !full {
		return nil
	}
	before := e.Server.Backend().Size()
	_, err := e.Server.Compact(ctx, &pb.CompactionRequest{Revision: e.Server.KV().Rev(), Physical: true})
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		return fmt.Errorf("cut history: %w", err)
	}
	if err := e.Server.Backend().Defrag(); err != nil {
		return fmt.Errorf("defragment database: %w", err)
	}
	size := e.Server.Backend().Size()
	if size > quota/10*9 {
		return fmt.Errorf("database has %d MiB after cutting all history, the quota is %d MiB: delete data, or move to an etcd cluster with a larger quota", size>>20, quota>>20)
	}
	_, err = e.Server.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: uint64(e.Server.MemberID())})
	if err != nil {
		return fmt.Errorf("end alarm NOSPACE: %w", err)
	}
	log.Warn("store had reached its quota and has room again", "before_mib", before>>20, "after_mib", size>>20)
	return nil
}
