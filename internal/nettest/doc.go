// Package nettest gives tests machines with lines of a known rate between them:
// network namespaces of this machine, joined by a bridge, each line shaped by tc.
//
// Invariant: nothing outside its own namespaces is touched, and they go with the test;
// those of a test process that was killed go with the next one's. Their names have the
// process id: zct<pid>-<n>-<host>.
//
// In: names of hosts, rates, faults. Out: commands that run on a host, sockets of a host in
// this process, octets that a line has carried. Delay, loss and partitions come from a Proxy
// in the test's process, because kernels without netem have none; it knows of no packets: the
// octets of a connection are never lost, it stands still or is reset.
package nettest
