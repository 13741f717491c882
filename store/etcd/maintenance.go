package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
)

const (
	// keepRevisions is how much history stays for watches that reconnect: at 10
	// commits a second about a quarter of an hour, at MaxTxnBytes each at most
	// 9 GiB, at the usual few KiB some tens of MiB.
	keepRevisions = 10_000
	// maintainEvery is how often history is cut and the quota looked at. Between two
	// rounds a burst may add what it likes; etcd's own compaction comes every 5
	// minutes only.
	maintainEvery = 30 * time.Second
)

// maintain cuts history until ctx ends or the server stops by itself.
func maintain(ctx context.Context, e *embed.Etcd, log *slog.Logger) error {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	var compacted int64
	for {
		if err := relieve(ctx, e, log); err != nil && ctx.Err() == nil {
			log.Error("store is over its quota and takes no writes", "error", err)
		}
		if oldest := e.Server.KV().Rev() - keepRevisions; oldest > compacted {
			_, err := e.Server.Compact(ctx, &pb.CompactionRequest{Revision: oldest})
			if err != nil && ctx.Err() == nil {
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
func relieve(ctx context.Context, e *embed.Etcd, log *slog.Logger) error {
	alarms := e.Server.Alarms()
	full := false
	for _, a := range alarms {
		full = full || a.Alarm == pb.AlarmType_NOSPACE
	}
	if !full {
		return nil
	}
	before := e.Server.Backend().Size()
	_, err := e.Server.Compact(ctx, &pb.CompactionRequest{Revision: e.Server.KV().Rev(), Physical: true})
	if err != nil {
		log.Debug("store history not cut", "error", err) // it may be cut already
	}
	if err := e.Server.Backend().Defrag(); err != nil {
		return fmt.Errorf("defragment database: %w", err)
	}
	size := e.Server.Backend().Size()
	if size > quota/10*9 {
		return fmt.Errorf("database has %d MiB after cutting all history, the quota is %d MiB: delete data, or move to an etcd cluster with a larger quota", size>>20, int64(quota)>>20)
	}
	_, err = e.Server.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE})
	if err != nil {
		return fmt.Errorf("end alarm NOSPACE: %w", err)
	}
	log.Warn("store had reached its quota and has room again", "before_mib", before>>20, "after_mib", size>>20)
	return nil
}
