package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

const (
	// sampleFile is the file in the status directory by which the authority says what it
	// was asked: tree.Sample as JSON, replaced atomically.
	sampleFile = "sample"
	maxSample  = 32 << 10 // octets
	// sampleLook is how often it is looked at.
	sampleLook = time.Second
)

// sampler keeps /samples/<dataset>/<host> as the authority's file says, in one session. Of
// what does not work the session goes on: it is what the host counts as live by.
type sampler struct {
	*Agent
	file time.Time // of the one that was said; zero: none
	at   time.Time // when
}

// report puts a file that is new into the store, when it is time.
func (r *sampler) report(ctx context.Context, s store.Session, now time.Time) {
	if r.cfg.SampleEvery == 0 {
		return
	}
	path := filepath.Join(r.cfg.StatusDir, sampleFile)
	op := store.Op{Path: tree.SamplePath(r.cfg.Dataset, r.cfg.Host)}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if r.file.IsZero() {
			return
		}
		op.Delete = true
	case err != nil || st.ModTime().Equal(r.file) || !r.file.IsZero() && now.Sub(r.at) < r.cfg.SampleEvery || st.Size() > maxSample:
		return
	default:
		b, err := os.ReadFile(path)
		var sample tree.Sample
		if err == nil {
			err = json.Unmarshal(b, &sample)
		}
		if op.Value = tree.Encode(sample); err != nil || len(op.Value) > maxSample {
			r.deps.Log.Debug("sample of questions cannot be read", "path", path, "error", err)
			return
		}
	}
	if _, err := s.Commit(ctx, store.Txn{Do: []store.Op{op}}); err != nil {
		r.deps.Log.Debug("sample of questions not reported, trying again", "error", err)
		return
	}
	r.file, r.at = time.Time{}, now
	if !op.Delete {
		r.file = st.ModTime()
		r.metrics.samples.Inc()
	}
}
