package operator

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Act is what a person does through the API: who signs it and who verifies it make the
// same of the same call.
type Act struct {
	Right  string // of Rights
	Action string // as in the audit
	Args   Args
}

// Rights are what an operator may be let do.
var Rights = []string{"override", "freeze", "rollback", "hold", "expect", "import", "config", "vip"}

// OverrideSet and the functions below are the acts. Every one has its reason.
func OverrideSet(owner, typ string, ttl int64, rdata []string, forMs int64, whole bool, reason string) Act {
	return Act{"override", "override set", Args{"owner": owner, "type": typ, "ttl": ttl, "rdata": rdata, "for_ms": forMs, "whole_name": whole, "reason": reason}}
}

func OverrideClear(id, reason string) Act {
	return Act{"override", "override cleared", Args{"id": id, "reason": reason}}
}

func Rollback(version int64, reason string) Act {
	return Act{"rollback", "rollback", Args{"version": version, "reason": reason}}
}

func Release(reason string) Act { return Act{"rollback", "release", Args{"reason": reason}} }

func Decide(id, decision, reason string) Act {
	return Act{"hold", "hold " + decision, Args{"id": id, "reason": reason}}
}

// DecideTrial passes or withdraws what is tried.
func DecideTrial(id, decision, reason string) Act {
	return Act{"hold", "trial " + decision, Args{"id": id, "reason": reason}}
}

func Freeze(source, reason string) Act {
	return Act{"freeze", "freeze", Args{"source": source, "reason": reason}}
}

func Thaw(id, reason string) Act { return Act{"freeze", "thaw", Args{"id": id, "reason": reason}} }

func Expect(zone, source string, removals, replacements, creations, forMs int64, reason string) Act {
	return Act{"expect", "expect", Args{
		"zone": zone, "source": source, "removals": removals, "replacements": replacements, "creations": creations, "for_ms": forMs, "reason": reason,
	}}
}

func Unexpect(id, reason string) Act {
	return Act{"expect", "expect cleared", Args{"id": id, "reason": reason}}
}

// VIP is an order to a host of a VIP, or to all when host is empty; an empty order takes it back.
func VIP(vip, host, order, reason string) Act {
	action := "vip " + order
	if order == "" {
		action = "vip release"
	}
	return Act{"vip", action, Args{"vip": vip, "host": host, "order": order, "reason": reason}}
}

// Import is of a file's content, which is too large to be signed itself.
func Import(file string, content []byte, reason string) Act {
	sum := sha256.Sum256(content)
	return Act{"import", "import", Args{"file": file, "sha256": hex.EncodeToString(sum[:]), "reason": reason}}
}

// ImportMap is of a map, and of the PoPs that are made for it.
func ImportMap(source string, content []byte, addPoPs []string, reason string) Act {
	a := Import(source, content, reason)
	if len(addPoPs) > 0 {
		a.Args["add_pops"] = strings.Join(addPoPs, " ")
	}
	return a
}
