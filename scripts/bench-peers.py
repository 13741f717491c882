#!/usr/bin/env python3
"""Compares servers that run: slices of half a second at each in turn, so that what the
machine does besides hits all alike. Give each server a processor, and the generator
another:

    scripts/bench-peers.py --queries queries.txt --slices 20 zonecast:PID:127.0.0.1:5300 gdnsd:PID:127.0.0.1:5301

It prints processor time for each answer (user and system, of all threads of PID), and
the ratio of the first server to each other one, slice by slice. With --rate it compares
latencies at that rate instead of the most that is answered."""

import argparse, json, statistics, subprocess, sys

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--zonecast", default="bin/zonecast")
p.add_argument("--queries", required=True, help="file of queries: NAME TYPE a line")
p.add_argument("--slices", type=int, default=20)
p.add_argument("--rate", type=int, default=0, help="queries a second; 0 is as many as are answered")
p.add_argument("--cpu", default="1", help="processor of the generator")
p.add_argument("servers", nargs="+", metavar="NAME:PID:ADDRESS:PORT")
o = p.parse_args()

seen = {}
for i in range(o.slices):
    for server in o.servers:
        name, pid, address = server.split(":", 2)
        cmd = [o.zonecast, "bench", "dns", address, "--file", o.queries, "--first", str(i * 100000), "--time", "500ms", "--cpus", o.cpu, "--server-pid", pid, "--sockets", "16", "--json"]
        if o.rate:
            cmd += ["--rate", str(o.rate)]
        run = subprocess.run(cmd, capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"{' '.join(cmd)}: {run.stderr}")
        j = json.loads(run.stdout)
        seen.setdefault(name, []).append((j["server_us"], j["answered_per_second"], j["latency_us"]["p50"], j["latency_us"]["p99"], j["lost"]))

first = None
for name, rows in seen.items():
    us = sorted(r[0] for r in rows)
    mid = lambda k: statistics.median(r[k] for r in rows)
    line = f"{name:10} {us[len(us) // 2]:.2f} us an answer ({us[len(us) // 10]:.2f} to {us[9 * len(us) // 10]:.2f}), {mid(1):.0f} answers/s, p50 {mid(2):.0f} us, p99 {mid(3):.0f} us, {sum(r[4] for r in rows)} lost"
    if first:
        ratio = sorted(a[0] / b[0] for a, b in zip(seen[first], rows))
        line += f"; {first} is {statistics.median(ratio):.2f} of it ({ratio[len(ratio) // 10]:.2f} to {ratio[9 * len(ratio) // 10]:.2f})"
    print(line)
    first = first or name
