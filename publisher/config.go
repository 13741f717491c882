package publisher

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// Config is what a person may set.
type Config struct {
	// Dataset is the name of the dataset that is published.
	Dataset string `option:"dataset" help:"name of the dataset"`
	// Dir keeps the snapshots that are offered. It is the publisher's alone: files in
	// it that are not offered are removed.
	Dir string `option:"dir" help:"directory for snapshots"`
	// KeyFile has the private key (PEM); it is made when it is not there, with the
	// public key beside it. Publishers of one dataset that take over from each other
	// share it, or hosts know the public keys of all.
	KeyFile string `option:"key" help:"file with the private key that signs; made at first start"`
	// AlsoKeys have further private keys, which sign as well, while the key changes: hosts
	// believe whichever they know. They are made as KeyFile is. At most three.
	AlsoKeys []string `option:"also-key" help:"files with further private keys that sign as well, while the key changes; made at first start"`
	// Validity is how long a manifest is valid; it is signed anew when half of it is over.
	// Hosts whose newest manifest is past its time raise an alarm, and serve on: what it finds
	// is a store that holds news back. Longer than the control plane may be away without that
	// being news. Zero means for ever.
	Validity time.Duration `option:"validity" help:"how long a manifest is valid; later hosts raise an alarm and serve on; 0 is for ever"`
	// URLs are the base URLs under which hosts reach Handler, such as
	// http://192.0.2.1:7380. None means that hosts live on the log alone, which is
	// then never trimmed.
	URLs []string `option:"url" help:"base URL under which hosts reach this publisher's HTTP side"`
	// SnapshotEvery is versions after which a snapshot is due; the log keeps two times
	// as many. With a heartbeat a second it is half an hour. Lower makes hosts that
	// were away fetch more, higher makes them replay more. Zero means never for this
	// reason.
	SnapshotEvery uint64 `option:"snapshot-every" help:"versions after which a snapshot is made"`
	// SnapshotBytes is octets of log after which a snapshot is due, when the last
	// snapshot is not larger than it: replaying more than a snapshot is dearer than
	// fetching one. Zero means never for this reason.
	SnapshotBytes int64 `option:"snapshot-bytes" help:"octets of log after which a snapshot is made"`
	// SnapshotPause is the least time between two snapshots: whoever fetches the older
	// of the two that are offered has at least so long.
	SnapshotPause time.Duration `option:"snapshot-pause" help:"least time between two snapshots"`
	// SessionTTL is how long after the death of a leading publisher another takes
	// over.
	SessionTTL time.Duration `option:"session-ttl" help:"how long after the death of a publisher another takes over"`
	// MaxDownloads bounds the snapshots served at the same time; who comes later is
	// told to try again. 64 on a line of 10 Gbit/s leave each 20 MB/s.
	MaxDownloads int `option:"max-downloads" help:"snapshots served at the same time"`
}

// DefaultConfig needs Dir and KeyFile yet.
func DefaultConfig() Config {
	return Config{
		Dataset:       "internal",
		SnapshotEvery: 2000,
		SnapshotBytes: 8 << 20,
		SnapshotPause: time.Minute,
		SessionTTL:    5 * time.Second,
		MaxDownloads:  64,
		Validity:      24 * time.Hour,
	}
}

const (
	// maxAlso is what a manifest has room for beside the first signature.
	maxAlso = 3
	// minValidity is four times what lies between two looks at the manifest's age, and leaves a
	// publisher that takes over the time to sign.
	minValidity = 4 * stuckLook
)

// maxURLs is what a host looks at.
const maxURLs = 16

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	if err := snapshot.CheckName(c.Dataset); err != nil {
		errs = append(errs, fmt.Errorf("dataset: %w", err))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("dir is empty, expected a directory"))
	}
	if c.KeyFile == "" {
		errs = append(errs, errors.New("key is empty, expected a file"))
	}
	if len(c.AlsoKeys) > maxAlso {
		errs = append(errs, fmt.Errorf("also-key is given %d times, at most %d", len(c.AlsoKeys), maxAlso))
	}
	if c.Validity != 0 && c.Validity < minValidity {
		errs = append(errs, fmt.Errorf("validity is %s, expected 0 or at least %s", c.Validity, minValidity))
	}
	if len(c.URLs) > maxURLs {
		errs = append(errs, fmt.Errorf("url is given %d times, at most %d", len(c.URLs), maxURLs))
	}
	for _, text := range c.URLs {
		if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(text) > 1024 {
			errs = append(errs, fmt.Errorf("url is %.80q, expected http://HOST:PORT or https://HOST:PORT", text))
		}
	}
	if c.SnapshotBytes < 0 || c.SnapshotPause < 0 {
		errs = append(errs, fmt.Errorf("snapshot-bytes is %d and snapshot-pause %s, expected 0 or more", c.SnapshotBytes, c.SnapshotPause))
	}
	if c.SessionTTL < time.Second {
		errs = append(errs, fmt.Errorf("session-ttl is %s, at least 1s", c.SessionTTL))
	}
	if c.MaxDownloads < 1 {
		errs = append(errs, fmt.Errorf("max-downloads is %d, at least 1", c.MaxDownloads))
	}
	return errors.Join(errs...)
}

// Deps is what the publisher works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Fetcher gets snapshots of other publishers when this one's directory is lost.
	// Nil means that the log or a full delta must do.
	Fetcher follow.Fetcher
	Name    string // of this process, for people who ask who leads
	// Swarm lets hosts fetch snapshots from each other. Nil: they fetch from URLs alone.
	Swarm Swarm
	// Now is the clock that manifests are stamped by; nil means time.Now.
	Now func() time.Time
}

// Swarm offers files to peers (package swarm).
type Swarm interface {
	// Offer lets peers fetch the file at path, that ref points at, and returns the info
	// hash and the metainfo by which they do.
	Offer(ref snapshot.Ref, path string) (infoHash string, metainfo []byte, err error)
	// Withdraw ends the offers of all but some.
	Withdraw(keep []snapshot.ID)
}
