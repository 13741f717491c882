#!/usr/bin/env python3
"""Cut examples/wikimedia-cut out of the whole data set (shared/data/wikimedia-2019).

usage: scripts/cut-example.py DATA_DIR OUT_DIR

Keeps about 300 servers (all of the small sites, whole clusters of the two large
ones), a dozen zones, and in the two large zones only what belongs to the kept
servers or is a service. Names that are answered by geography are comments in the
source and are left out. The result is deterministic."""
import json, os, sys, ipaddress

data, out = sys.argv[1:3]
ROLES = {"acmechief", "cp", "dns", "lvs", "ganeti", "bast", "mc", "ms-fe", "restbase", "wdqs", "thumbor",
         "kafka-main", "kafka-jumbo", "conf", "prometheus", "graphite", "puppetmaster", "mwdebug", "ores", "schema", "people"}
ZONES = ["wmnet", "10.in-addr.arpa", "wikimedia.org", "wikipedia.org", "mediawiki.org", "w.wiki", "toolserver.org", "wmftest.org",
         "174.198.91.in-addr.arpa", "0.6.8.0.0.0.0.0.0.2.6.2.ip6.arpa", "0.8.c.e.2.0.a.2.ip6.arpa", "wikibase.org", "parking"]
LARGE = {"wmnet", "10.in-addr.arpa", "0.6.8.0.0.0.0.0.0.2.6.2.ip6.arpa"}
SERVICE = (".svc.", ".discovery.", "_tcp.")

os.makedirs(out + "/zones", exist_ok=True)
fleet = [json.loads(line) for line in open(data + "/fleet.jsonl")]
kept = [s for s in fleet if s["site"] not in ("eqiad", "codfw") or s["role"] in ROLES]
names = {s["name"].lower() + "." for s in kept}
addresses = {ipaddress.ip_address(a).reverse_pointer + "." for s in kept for a in s["addresses"]}
with open(out + "/fleet.jsonl", "w") as f:
    for s in kept:
        f.write(json.dumps(s) + "\n")

def keep(zone, owner, rtype, rdata):
    if zone not in LARGE or owner == zone + ".":
        return True
    if owner in names or owner in addresses or any(p in owner for p in SERVICE):
        return True
    return rtype == "PTR" and any(p in rdata for p in SERVICE)

for zone in ZONES:
    lines = []
    for line in open(data + "/zones/" + zone):
        fields = line.split()
        if line.startswith(";") or not fields:
            continue
        if line.startswith("$") or keep(zone, fields[0].lower(), fields[3], " ".join(fields[4:])):
            lines.append(line)
    with open(out + "/zones/" + zone, "w") as f:
        f.writelines(lines)
    print(zone, len(lines))
print("servers", len(kept))
