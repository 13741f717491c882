package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Without a file of operators whoever reaches the API may act, under any name: the network
// decides. With one, every act is signed by an operator, and done once.

// who gives the operators, as the file has them now. When that cannot be read those that
// were read last may act; where none ever were it is an error.
func (c *Control) who() (*operator.Operators, error) {
	all, err := c.readOperators()
	if all != nil {
		return all, nil
	}
	return nil, err
}

// readOperators gives operators and error as operator.File does, and logs what is new.
func (c *Control) readOperators() (*operator.Operators, error) {
	all, news, err := c.operators.Now(c.cfg.Operators)
	switch {
	case news && err == nil:
		c.deps.Log.Info("operators are read again", "file", c.cfg.Operators)
	case news && all == nil:
		c.deps.Log.Error("operators cannot be read: nobody may act", "error", err)
	case news:
		c.deps.Log.Error("operators cannot be read; those that were read last stay", "error", err)
	}
	return all, err
}

// Trouble tells what a person should mend; "" when there is nothing.
func (c *Control) Trouble() string {
	if c.cfg.Operators == "" {
		return ""
	}
	switch all, err := c.readOperators(); {
	case err == nil:
		return ""
	case all == nil:
		return "nobody may act: " + err.Error()
	default:
		return err.Error() + "; those that were read last stay"
	}
}

// once is what a transaction has with an act that is signed, so that it is done once.
type once struct {
	conds []store.Cond
	ops   []store.Op
	id    string // of the statement; "" when none is needed
}

// may tells whether the caller may do what is asked, and that he said who he is and why.
func (c *Control) may(ctx context.Context, act operator.Act, by *controlapi.Doer) (once, error) {
	if err := checkDoer(by); err != nil {
		return once{}, err
	}
	if c.cfg.Operators == "" {
		return once{}, nil
	}
	denied := func(hint, format string, args ...any) (once, error) {
		err := api.Refuse(api.Denied, hint, format, args...)
		c.deps.Log.Warn("act refused", "action", act.Action, "author", clipped(by.Author), "caller", api.Caller(ctx), "error", api.Message(err))
		return once{}, err
	}
	all, err := c.who()
	if err != nil {
		return once{}, api.Refuse(api.Unavailable, "mend the file of --control-operators", "nobody may act: %v", err)
	}
	if len(by.SignedAct) == 0 {
		return denied("--key FILE signs with an operator's key; `zonecast operator keygen` makes one", "%s is not signed, and only operators may act here", act.Action)
	}
	now := c.deps.Now()
	s, id, err := all.Verify(by.SignedAct, now)
	if err != nil {
		return denied("", "%v", err)
	}
	if err := s.Is(act.Action, c.cfg.Dataset, act.Args); err != nil {
		return denied("", "%v", err)
	}
	if s.Operator != by.Author {
		return denied("--author is the operator's name", "%s signed, and the author is said to be %s", s.Operator, clipped(by.Author))
	}
	if !all.May(s.Operator, act.Right) {
		return denied("the file of --control-operators says who may what", "%s may not %s: the right %q is missing", s.Operator, act.Action, act.Right)
	}
	nodes, _, err := c.deps.Store.List(ctx, tree.Statements)
	if err != nil {
		return once{}, unavailable(err)
	}
	path := tree.StatementPath(id)
	o := once{id: id, conds: []store.Cond{{Path: path}}, ops: []store.Op{{Path: path, Value: tree.Encode(tree.Statement{Time: s.Time})}}}
	for _, n := range nodes {
		var old tree.Statement
		_ = tree.Decode(n, &old) // what cannot be read is old
		switch {
		case n.Path == path:
			return denied("sign it again, if it is to be done again", "what %s signed at %s was done already", s.Operator, stamp(s.Time))
		case now.UnixMilli()-old.Time > 2*operator.Skew.Milliseconds() && len(o.ops) < maxForgotten:
			o.ops = append(o.ops, store.Op{Path: n.Path, Delete: true}) // too old to be taken again
		}
	}
	return o, nil
}

// ConfigRight is the right to act on proposals of the configuration.
const ConfigRight = "config"

// VerifyText tells why it is not who they say who signed a text, or why they may not; nil
// when it is, or where everybody may act.
func (c *Control) VerifyText(who string, text, signature []byte) error {
	if c.cfg.Operators == "" {
		return nil
	}
	all, err := c.who()
	if err != nil {
		return fmt.Errorf("nobody may act: %w", err)
	}
	return all.VerifyText(who, ConfigRight, text, signature)
}

// maxForgotten is how many old statements one act takes away at most.
const maxForgotten = 32

// reasonOf is what by says why; "" when it says nothing.
func reasonOf(by *controlapi.Doer) string {
	if by == nil {
		return ""
	}
	return by.Reason
}

func checkDoer(by *controlapi.Doer) error {
	switch {
	case by == nil || by.Author == "":
		return api.Refuse(api.Invalid, "--author says it", "nobody is named who does it")
	case by.Reason == "":
		return api.Refuse(api.Invalid, "--reason says it to those who ask later", "no reason is given")
	}
	return checkTexts(by.Author, by.Reason)
}

// act does what a person asked, and notes it.
func (c *Control) act(ctx context.Context, txn store.Txn, e tree.AuditEntry, o once) (store.Revision, error) {
	e.Time = c.deps.Now().UnixMilli()
	e.Signed = o.id
	cond, op := tree.AuditOps(e)
	txn.If, txn.Do = append(append(txn.If, cond), o.conds...), append(append(txn.Do, op), o.ops...)
	rev, err := c.deps.Store.Commit(ctx, txn)
	switch {
	case errors.Is(err, store.ErrConflict):
		return 0, api.Refuse(api.Unavailable, "look again and decide", "somebody else changed it at the same moment; nothing was done")
	case err != nil:
		return 0, unavailable(err)
	}
	c.deps.Log.Info("person acted", "action", e.Action, "subject", e.Subject, "what", e.Text, "author", e.Author)
	return rev, nil
}
