package control

import (
	"context"
	"errors"
	"fmt"
	"testing/fstest"
	"unicode/utf8"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Bounds of an import by call.
const (
	maxText   = 1024     // octets of author and of reason, as for servers
	maxImport = 64 << 20 // octets of names and RDATA: a call's 16 MiB of text have no more without $GENERATE
)

// ImportZone implements controlapi.Control. No content takes away what the file
// claimed before.
func (c *Control) ImportZone(ctx context.Context, file string, content []byte, by *controlapi.Doer) (*answer.Change, error) {
	defer c.observe("import_zone")()
	source, err := zonefile.ImportSourceOf(file)
	if err != nil {
		return nil, api.Refuse(api.Invalid, "give the file a name of letters, digits, dots and dashes", "%v", err)
	}
	if by == nil {
		by = &controlapi.Doer{} // a file says by itself who and why, mostly
	}
	author, reason := by.Author, by.Reason
	var signed once
	if c.cfg.Operators != "" {
		signed, err = c.may(ctx, operator.Import(file, content, reason), by)
	} else {
		err = checkTexts(author, reason)
	}
	if err != nil {
		return nil, err
	}
	state := tree.Source{Source: source, Where: file, Time: c.deps.Now().UnixMilli()}
	var claims []record.Claim
	if len(content) > 0 {
		who := record.Provenance{Author: author, Reason: reason, Time: c.deps.Now().UTC()}
		c.imports.Lock() // one at a time: each may take some times maxImport of memory
		defer c.imports.Unlock()
		zone, err := zonefile.ParseUpTo(fstest.MapFS{file: &fstest.MapFile{Data: content}}, file, who, maxImport)
		if err != nil {
			return nil, api.Refuse(api.Invalid, "mend the file and import it again; what it claimed before still holds", "%v", err)
		}
		claims, state.Records, state.Revision = zone.Claims, zone.Records, zone.Revision
		for i := range claims {
			claims[i].Source = source
		}
		before, err := claimtree.Load(ctx, c.deps.Store, source)
		if errors.Is(err, store.ErrUnavailable) {
			return nil, unavailable(err)
		}
		if err == nil { // otherwise damaged in the store, and written anew
			claims = zonefile.Inherit(claims, before)
		}
	}
	mark := store.Op{Path: tree.SourcePath(source), Value: tree.Encode(state), Delete: len(content) == 0}
	text := fmt.Sprintf("%d records, revision %s", state.Records, state.Revision)
	if mark.Delete {
		text = "what it claimed is taken away"
	}
	_, note := tree.AuditOps(tree.AuditEntry{
		Time: state.Time, Action: "import", Subject: string(source), Text: text, Author: author, Reason: reason, From: api.Caller(ctx), Signed: signed.id,
	})
	rev, changed, err := claimtree.Replace(ctx, c.deps.Store, source, claims, store.Txn{Do: append([]store.Op{mark, note}, signed.ops...)})
	switch {
	case errors.Is(err, store.ErrConflict):
		return nil, api.Refuse(api.Unavailable, "try again", "somebody else imports %s at the same time", file)
	case err != nil:
		return nil, unavailable(err)
	}
	c.deps.Log.Info("zone file imported", "source", source, "records", state.Records, "changed", changed, "author", author)
	return &answer.Change{Revision: int64(rev), Changed: changed}, nil
}

func checkTexts(texts ...string) error {
	for _, text := range texts {
		if len(text) > maxText || !utf8.ValidString(text) {
			return api.Refuse(api.Invalid, "", "author or reason has %d octets, expected at most %d of UTF-8", len(text), maxText)
		}
	}
	return nil
}
