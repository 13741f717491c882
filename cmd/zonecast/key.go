package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

func newKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "the keys that sign what hosts believe",
		Long: `key makes, shows, changes and revokes the keys of publishers.

To change a key while everything runs: make the new one, give hosts both public keys (their files are followed), have the publisher
sign with both (--publisher-also-key) or with the new one, wait until "key status" says that every host believes the new one, and revoke
the old one. A key revokes itself; a host that has seen that remembers it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newKeyNew(), newKeyShow(), newKeyStatus(), newKeyRevoke(), newKeyUnrevoke(), newKeyRevocations())
	return cmd
}

func newKeyNew() *cobra.Command {
	return &cobra.Command{
		Use: "new FILE", Short: "make a key",
		Long: `new makes a private key in FILE, its public key in FILE.pub, and in FILE.revocation the line by which it is revoked as void. Keep that
one elsewhere: who has lost the key, or has had it stolen, gives it to "key revoke --line".`,
		Example: `  zonecast key new /etc/zonecast/publisher-2027.key`,
		Args:    exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := args[0]
			for _, p := range []string{path, path + ".pub", path + ".revocation"} {
				if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
					return hinted{fmt.Errorf("%s is there already, or cannot be looked at", p), "a key is never written over: choose another file"}
				}
			}
			key, err := snapshot.LoadOrCreateKey(path)
			if err != nil {
				return err
			}
			line, err := trust.Statement{Void: true, Time: time.Now(), Reason: "made with the key, for when it is lost or stolen"}.Sign(key)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".revocation", []byte(line+"\n"), 0o600); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %s.pub\n", snapshot.KeyID(key.Public().(ed25519.PublicKey)), path)
			return err
		},
	}
}

func newKeyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show FILE…", Short: "the ids of keys in files, private or public",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused(cmd, errors.New("key show takes files of keys"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, path := range args {
				keys, err := snapshot.LoadPublicKeys(path)
				if err != nil {
					key, privateErr := snapshot.LoadPrivateKey(path)
					if privateErr != nil {
						return errors.Join(err, privateErr)
					}
					keys = []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}
				}
				for _, k := range keys {
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", snapshot.KeyID(k), path); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// keyStoreOptions are those of the commands that look into the store.
type keyStoreOptions struct {
	Dataset string        `option:"dataset" help:"name of the dataset"`
	Timeout time.Duration `option:"timeout" help:"how long the store may take"`
	JSON    bool          `option:"json" help:"print JSON and nothing else"`
}

// Validate implements the kit's check.
func (o *keyStoreOptions) Validate() error {
	if o.Timeout <= 0 {
		return service.Invalid("timeout", "more than 0")
	}
	return nil
}

// withStore has cmd work with the store that --store names.
func withStore(cmd *cobra.Command, o *keyStoreOptions, work func(ctx context.Context, st store.Store, args []string) error) {
	*o = keyStoreOptions{Dataset: "internal", Timeout: 10 * time.Second}
	so, d := clientStore{}, dirOptions{}
	declare(cmd, "", o)
	declareStore(cmd, &so, &d)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if err := load(cmd); err != nil {
			return err
		}
		log, err := defaultLog().Logger(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), o.Timeout)
		defer cancel()
		here := so.here(d.Dir)
		st, err := openNow(ctx, here, d.Dir, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		if err := work(ctx, st, args); err != nil {
			return hinted{err, "the store that was asked is " + here.public() + "; --store names another, as in the services that run"}
		}
		return nil
	}
}

// keyView is a key as the fleet has it.
type keyView struct {
	ID       string `json:"id"`
	Signs    bool   `json:"signs"`     // the newest manifest
	Believe  int    `json:"believe"`   // hosts that believe it
	Refuse   int    `json:"refuse"`    // hosts that know it and do not believe it any more
	Stand    int    `json:"stand"`     // hosts whose data it signed, with others or alone
	Alone    int    `json:"alone"`     // hosts that believe no other of the keys that sign
	Revoked  string `json:"revoked"`   // what the store says of it; empty: nothing
	CanLeave bool   `json:"can_leave"` // every host believes another key that signs
}

// keysView is what `key status` says.
type keysView struct {
	Dataset    string    `json:"dataset"`
	Version    uint64    `json:"version"`        // of the newest manifest
	Signed     int64     `json:"signed_ms"`      // 0: it does not say
	ValidUntil int64     `json:"valid_until_ms"` // 0: it does not say
	Hosts      int       `json:"hosts"`
	Keys       []keyView `json:"keys"`
}

func newKeyStatus() *cobra.Command {
	var o keyStoreOptions
	cmd := &cobra.Command{
		Use: "status", Short: "which key signs, and which hosts believe which", Args: exactArgs(),
		Long: `status reads from the store who signed the newest manifest, whom each host believes, and by whose word it has what it has. A key can go when
every host believes another one that signs.`,
		Example: `  zonecast key status --store etcd://192.0.2.10:2379`,
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, _ []string) error {
		v, err := readKeys(ctx, st, o.Dataset)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if o.JSON {
			return json.NewEncoder(w).Encode(v)
		}
		fmt.Fprintf(w, "dataset %s  version %d", plain(v.Dataset), v.Version)
		if v.Signed > 0 {
			fmt.Fprintf(w, "  signed %s", time.UnixMilli(v.Signed).UTC().Format(time.RFC3339))
		}
		if v.ValidUntil > 0 {
			fmt.Fprintf(w, "  valid until %s", time.UnixMilli(v.ValidUntil).UTC().Format(time.RFC3339))
		}
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  KEY\tSIGNS\tBELIEVED BY\tREFUSED BY\tSTANDS BEHIND\t")
		for _, k := range v.Keys {
			signs, note := "-", ""
			if k.Signs {
				signs = "yes"
			}
			switch {
			case k.Revoked != "":
				note = plain(k.Revoked)
			case k.CanLeave:
				note = "can be revoked: every host believes another that signs"
			case k.Alone > 0:
				note = fmt.Sprintf("%s would believe nobody without it", count(k.Alone, "host"))
			}
			fmt.Fprintf(t, "  %s\t%s\t%d of %d\t%d\t%d\t%s\n", plain(k.ID), signs, k.Believe, v.Hosts, k.Refuse, k.Stand, note)
		}
		return t.Flush()
	})
	return cmd
}

// readKeys reads from the store how keys are believed.
func readKeys(ctx context.Context, st store.Store, dataset string) (keysView, error) {
	v := keysView{Dataset: dataset, Keys: []keyView{}}
	keys := map[string]*keyView{}
	key := func(id string) *keyView {
		if keys[id] == nil {
			keys[id] = &keyView{ID: id}
		}
		return keys[id]
	}
	var signers []string
	n, err := st.Get(ctx, tree.ManifestPath(dataset))
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return v, err
	default:
		m, err := snapshot.DecodeManifest(n.Value)
		if err != nil {
			return v, fmt.Errorf("node %s: %w", n.Path, err)
		}
		v.Version, v.Signed, v.ValidUntil = m.Version, m.Signed, m.ValidUntil
		signers = snapshot.SignedBy(n.Value)
		for _, id := range signers {
			key(id).Signs = true
		}
	}
	nodes, _, err := st.List(ctx, tree.TrustPrefix(dataset))
	if err != nil {
		return v, err
	}
	var hosts []tree.Trust
	for _, n := range nodes {
		var t tree.Trust
		if err := tree.Decode(n, &t); err != nil {
			return v, err
		}
		hosts = append(hosts, t)
		for _, id := range t.Believed {
			key(id).Believe++
		}
		for _, r := range t.Revoked {
			key(r.ID).Refuse++
		}
		for _, id := range t.SignedBy {
			key(id).Stand++
		}
	}
	v.Hosts = len(hosts)
	revocations, err := readRevocations(ctx, st)
	if err != nil {
		return v, err
	}
	for _, r := range revocations {
		key(r.ID).Revoked = r.text()
	}
	for id, k := range keys {
		k.CanLeave = k.Believe > 0 && len(hosts) > 0
		for _, t := range hosts {
			if !slices.ContainsFunc(t.Believed, func(other string) bool { return other != id && slices.Contains(signers, other) }) {
				k.CanLeave = false
				if slices.Contains(t.Believed, id) {
					k.Alone++
				}
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		v.Keys = append(v.Keys, *keys[id])
	}
	return v, nil
}

// revocationView is what is known of a revoked key.
type revocationView struct {
	ID     string `json:"id"`
	Void   bool   `json:"void"`
	Time   int64  `json:"time_ms"`
	Reason string `json:"reason"`
	Line   string `json:"line"`
	// Problem is why the node revokes nothing; empty when it does.
	Problem string `json:"problem,omitempty"`
}

func (r revocationView) text() string {
	if r.Problem != "" {
		return "a node that revokes nothing: " + r.Problem
	}
	return trust.Statement{Void: r.Void, Time: time.UnixMilli(r.Time), Reason: r.Reason}.String()
}

func viewOf(id, line string) revocationView {
	s, err := trust.ParseStatement(line)
	if err == nil && s.ID() != id {
		err = fmt.Errorf("it revokes key %s", s.ID())
	}
	if err != nil {
		return revocationView{ID: id, Line: line, Problem: err.Error()}
	}
	return revocationView{ID: s.ID(), Void: s.Void, Time: s.Time.UnixMilli(), Reason: s.Reason, Line: line}
}

func readRevocations(ctx context.Context, st store.Store) ([]revocationView, error) {
	nodes, _, err := st.List(ctx, tree.Revocations)
	all := []revocationView{}
	for _, n := range nodes {
		all = append(all, viewOf(strings.TrimPrefix(n.Path, tree.Revocations), string(n.Value)))
	}
	return all, err
}

func newKeyRevocations() *cobra.Command {
	var o keyStoreOptions
	var memory string
	cmd := &cobra.Command{
		Use: "revocations", Short: "the keys that are revoked, in the store or by a host's memory", Args: exactArgs(),
		Example: `  zonecast key revocations --store etcd://192.0.2.10:2379
  zonecast key revocations --memory /var/lib/zonecast/journal.revoked`,
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, _ []string) error {
		all, err := readRevocations(ctx, st)
		if err != nil {
			return err
		}
		return writeRevocations(cmd, o.JSON, all)
	})
	inMemory(cmd, &memory, func([]string) error {
		seen, err := trust.Remembered(memory)
		all := []revocationView{}
		for _, id := range slices.Sorted(maps.Keys(seen)) {
			all = append(all, viewOf(id, seen[id].Line()))
		}
		return errors.Join(writeRevocations(cmd, o.JSON, all), err)
	})
	return cmd
}

func writeRevocations(cmd *cobra.Command, asJSON bool, all []revocationView) error {
	w := cmd.OutOrStdout()
	if asJSON {
		return json.NewEncoder(w).Encode(all)
	}
	for _, r := range all {
		fmt.Fprintf(w, "%s  %s\n", plain(r.ID), plain(r.text()))
	}
	_, err := fmt.Fprintf(w, "%s\n", count(len(all), "revocation"))
	return err
}

// inMemory gives cmd the flag --memory; with it instead is done, on this machine alone.
func inMemory(cmd *cobra.Command, memory *string, instead func(args []string) error) {
	cmd.Flags().StringVar(memory, "memory", "", "a host's memory of revocations on this machine (JOURNAL.revoked), in place of the store")
	usual := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *memory == "" {
			return usual(cmd, args)
		}
		if err := load(cmd); err != nil {
			return err
		}
		return instead(args)
	}
}

// revokeOptions are those of `key revoke`.
type revokeOptions struct {
	Key    string `option:"key" help:"file of the private key that is revoked; it signs that itself"`
	Line   string `option:"line" help:"file with the line by which the key revokes itself, in place of --key (see key new)"`
	Void   bool   `option:"void" help:"what it signed before is void as well: it was in the wrong hands"`
	Reason string `option:"reason" help:"why, for those who ask"`
	Print  bool   `option:"print" help:"print the line, and revoke nothing yet"`
}

// Validate implements the kit's check.
func (o *revokeOptions) Validate() error {
	if (o.Key == "") == (o.Line == "") {
		return service.Invalid("key", "the file of the private key, or --line the file of a revocation, one of both")
	}
	return nil
}

func newKeyRevoke() *cobra.Command {
	var o keyStoreOptions
	var r revokeOptions
	var by string
	cmd := &cobra.Command{
		Use: "revoke", Short: "take the trust in a key away, for good", Args: exactArgs(),
		Long: `revoke puts the line by which a key revokes itself into the store, where every host sees it within moments and remembers it. Nothing new that the
key signs is believed. What hosts have stays and is served; with --void a host that stands on what the key signed leaves that for whatever a
key that it believes signs, be it older: what a thief's version needs. A key that is lost, with its revocation: name its id on each host, in the file of --agent-revoked.`,
		Example: `  zonecast key revoke --key old.key --reason "replaced in time"
  zonecast key revoke --line publisher.key.revocation`,
	}
	declare(cmd, "", &r)
	line := func() (string, trust.Statement, error) {
		var text string
		if r.Line != "" {
			b, err := os.ReadFile(r.Line)
			if err != nil {
				return "", trust.Statement{}, err
			}
			text = strings.TrimSuffix(string(b), "\n")
		} else {
			key, err := snapshot.LoadPrivateKey(r.Key)
			if err != nil {
				return "", trust.Statement{}, err
			}
			if text, err = (trust.Statement{Void: r.Void, Time: time.Now(), Reason: r.Reason}).Sign(key); err != nil {
				return "", trust.Statement{}, err
			}
		}
		s, err := trust.ParseStatement(text)
		return text, s, err
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, _ []string) error {
		text, s, err := line()
		if err != nil {
			return err
		}
		said, err := revoke(ctx, st, s, text, by)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), plain(said))
		return err
	})
	cmd.Flags().StringVar(&by, "author", author(), "who revokes it")
	usual := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if !r.Print {
			return usual(cmd, args)
		}
		text, _, err := line()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

// revoke puts the line of s into the store, unless that says as much of the same key already,
// and tells which. It is noted for the audit.
func revoke(ctx context.Context, st store.Store, s trust.Statement, line, by string) (said string, err error) {
	path := tree.RevocationPath(s.ID())
	n, err := st.Get(ctx, path)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	if old, bad := trust.ParseStatement(string(n.Value)); bad == nil && old.ID() == s.ID() && (old.Void || !s.Void) {
		return fmt.Sprintf("key %s is revoked already: %s", s.ID(), old), nil
	}
	fresh, note := tree.AuditOps(tree.AuditEntry{
		Time: time.Now().UnixMilli(), Action: "key revoked", Subject: s.ID(), Text: s.String(), Author: by, Reason: s.Reason, From: processID(),
	})
	_, err = st.Commit(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: n.Modified}, fresh}, Do: []store.Op{{Path: path, Value: []byte(line)}, note}})
	return fmt.Sprintf("key %s is revoked: %s", s.ID(), s), err
}

// unrevoke takes a revocation out of the store, and notes it for the audit.
func unrevoke(ctx context.Context, st store.Store, id string, by changeOptions) error {
	path := tree.RevocationPath(id)
	n, err := st.Get(ctx, path)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("the store has no revocation of key %.40q", id)
	}
	if err != nil {
		return err
	}
	fresh, note := tree.AuditOps(tree.AuditEntry{
		Time: time.Now().UnixMilli(), Action: "key unrevoked", Subject: id, Text: "the store forgot: " + viewOf(id, string(n.Value)).text(), Author: by.Author, Reason: by.Reason, From: processID(),
	})
	_, err = st.Commit(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: n.Modified}, fresh}, Do: []store.Op{{Path: path, Delete: true}, note}})
	return err
}

func newKeyUnrevoke() *cobra.Command {
	var o keyStoreOptions
	var by changeOptions
	var memory string
	cmd := &cobra.Command{
		Use: "unrevoke ID", Short: "forget that a key was revoked, in the store or by one host", Args: exactArgs("ID"),
		Long: `unrevoke takes a revocation out of the store, so that hosts which have not seen it never do; with --memory it takes it out of the memory of the host
on this machine. Hosts that have seen it remember it until that is done on each: nobody who has the store alone can give trust back. Who kept
the line can say it again at any time; a new key is the better way.`,
		Example: `  zonecast key unrevoke 6a3803d5f059902a
  zonecast key unrevoke 6a3803d5f059902a --memory /var/lib/zonecast/journal.revoked`,
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, args []string) error {
		if err := unrevoke(ctx, st, args[0], by); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "the store forgot that key %s is revoked; hosts that saw it remember it\n", args[0])
		return err
	})
	by.declareAuthor(cmd)
	inMemory(cmd, &memory, func(args []string) error {
		there, err := trust.Forget(memory, args[0])
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("%s has no revocation of key %.40q", memory, args[0])
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s forgot that key %s is revoked; while the store says so it is learned again\n", memory, args[0])
		return err
	})
	return cmd
}
