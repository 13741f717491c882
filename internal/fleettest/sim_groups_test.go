package fleettest

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/zonecast/zonecast/agent"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Groups say what hosts carry. Here they say what hosts cannot do, and are not put right by anybody:
// every host goes on with the dataset that there is.

// ghost is a dataset that nobody publishes.
const ghost = "ghost"

// group changes what all hosts are to carry.
func (w *world) group() string {
	op := store.Op{Path: tree.GroupPath("all")}
	switch kind := w.rng.IntN(7); kind {
	case 0:
		op.Delete = true
	case 1:
		op.Value = []byte("{")
	default:
		op.Value = tree.Encode(tree.Group{Hosts: []string{"*"}, Datasets: [][]string{{dataset}, {dataset, ghost}, {ghost}, {ghost}, {ghost}}[kind-2]})
	}
	w.put(op)
	if w.without == answersFirst {
		w.haunt()
	}
	return "the group of all hosts is " + string(op.Value)
}

// haunt has the store and every host say that the dataset that is not there is answered.
func (w *world) haunt() {
	w.put(store.Op{Path: tree.HeadPath(ghost), Value: tree.Encode(tree.Head{Version: 1})})
	for _, h := range w.hosts {
		dir, disk := datasets.Beside(h.path("status"), dataset, ghost), h.getDisk()
		path := filepath.Join(dir, agent.ServingFile)
		if disk.MkdirAll(dir, 0o755) != nil {
			continue
		}
		_ = disk.Remove(path) // of an earlier time
		f, err := disk.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			continue // the disk does as it can
		}
		_, err = f.Write(tree.Encode(tree.HostDataset{Version: 1, Since: time.Now().UnixMilli()}))
		if err = errors.Join(err, f.Close()); err != nil {
			continue
		}
	}
}
