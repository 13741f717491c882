package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/swarm"
)

// swarmFetchOptions are those of `swarm fetch`.
type swarmFetchOptions struct {
	Dataset string   `option:"dataset" help:"name of the dataset"`
	Keys    []string `option:"keys" help:"files with public keys that are believed"`
	Into    string   `option:"into" help:"directory that the snapshot comes to, and is given to others from"`
	Name    string   `option:"name" help:"name under which others find this machine; empty: its host name and the process id"`
	Stay    bool     `option:"stay" help:"go on giving to others until told to end"`
	JSON    bool     `option:"json" help:"print JSON and nothing else"`

	swarm swarm.Config
	store clientStore

	embedded dirOptions
}

// Validate implements the kit's check.
func (o *swarmFetchOptions) Validate() error {
	switch {
	case o.Into == "":
		return service.Invalid("into", "a directory")
	case len(o.Keys) == 0:
		return service.Invalid("keys", "one or more files with public keys: without one nothing could be believed")
	}
	return nil
}

func newSwarmFetch() *cobra.Command {
	o := swarmFetchOptions{Dataset: "internal", swarm: swarm.DefaultConfig()}
	cmd := &cobra.Command{
		Use: "fetch", Short: "fetch the newest snapshot, as a host does", Args: exactArgs(),
		Long: `fetch fetches the newest snapshot of a dataset, as a host that joins does: from peers when --swarm-listen says where this machine gives to others, from
the publisher's URLs otherwise. The manifest that names it is verified with --keys, the file by its SHA-256. It needs memory for neither: with --stay a machine
that answers no DNS gives the snapshot to the hosts of its site.`,
		Example: `  zonecast swarm fetch --store etcd://192.0.2.10:2379 --keys publisher.key.pub --into /var/lib/zonecast/mirror --swarm-listen 192.0.2.60:7382 --stay`,
	}
	declare(cmd, "", &o)
	declareStore(cmd, &o.store, &o.embedded)
	declare(cmd, "swarm", &o.swarm)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// fetched is what fetch tells of what it has done.
type fetched struct {
	ID      string  `json:"id"`
	Version uint64  `json:"version"`
	Size    int64   `json:"size"` // octets
	Took    float64 `json:"took_s"`
	Path    string  `json:"path"`
}

func (o *swarmFetchOptions) run(ctx context.Context, out, errs io.Writer) (err error) {
	log, err := defaultLog().Logger(errs)
	if err != nil {
		return err
	}
	st, err := openNow(ctx, o.store.here(o.embedded.Dir), o.embedded.Dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	ref, err := o.newest(ctx, st)
	if err != nil {
		return err
	}
	var fetcher follow.Fetcher = follow.HTTP{Log: log}
	if o.swarm.Listen != "" {
		if o.swarm.Dir == "" {
			o.swarm.Dir = filepath.Join(o.Into, "swarm")
		}
		if o.Name == "" {
			o.Name = processID()
		}
		sw, err := swarm.New(o.swarm, swarm.Deps{
			Store: st, Log: log, Metrics: prometheus.NewRegistry(), Name: o.Name, Dataset: o.Dataset, Session: true, Fallback: fetcher,
		})
		if err != nil {
			return inTheWay("--swarm-listen", o.swarm.Listen, err)
		}
		running, end := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- sw.Run(running) }()
		defer func() {
			end()
			if also := <-ended; !errors.Is(also, context.Canceled) {
				err = errors.Join(err, also)
			}
		}()
		fetcher = sw
	}
	bar := newProgress(errs, "snapshot "+ref.ID.String()[:12])
	began := time.Now()
	path, err := fetcher.Fetch(ctx, ref, o.Into, func(done, total int64) { bar.set(int(done), int(total)) })
	bar.done()
	if err != nil {
		return err
	}
	f := fetched{ID: ref.ID.String(), Version: ref.Version, Size: ref.Size, Took: time.Since(began).Seconds(), Path: path}
	if o.JSON {
		err = json.NewEncoder(out).Encode(f)
	} else {
		_, err = fmt.Fprintf(out, "fetched snapshot %.12s of version %d, %d octets, in %.1f s: %s\n", f.ID, f.Version, f.Size, f.Took, f.Path)
	}
	if err == nil && o.Stay {
		<-ctx.Done()
	}
	return err
}

// newest is the snapshot of the manifest in the store, whose signature is verified.
func (o *swarmFetchOptions) newest(ctx context.Context, st store.Store) (ref snapshot.Ref, err error) {
	var keys []ed25519.PublicKey
	for _, path := range o.Keys {
		some, err := snapshot.LoadPublicKeys(path)
		if err != nil {
			return ref, err
		}
		keys = append(keys, some...)
	}
	whole, err := follow.ReadManifest(ctx, st, o.Dataset)
	if err != nil {
		return ref, hinted{fmt.Errorf("read manifest of %s: %w", o.Dataset, err), "--store says where the store is, as in the services that run; --dataset says which dataset"}
	}
	m, err := snapshot.VerifyManifest(whole, keys)
	switch {
	case err != nil:
		return ref, err
	case m.Dataset != o.Dataset:
		return ref, fmt.Errorf("manifest of %s is of dataset %.70q", o.Dataset, m.Dataset)
	case m.Snapshot.ID.IsZero():
		return ref, fmt.Errorf("no snapshot of %s is offered yet", o.Dataset)
	}
	return m.Snapshot, os.MkdirAll(o.Into, 0o755)
}
