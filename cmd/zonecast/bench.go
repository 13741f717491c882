package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/dnsload"
	"github.com/zonecast/zonecast/record"
)

// benchOptions are those of `bench dns`. What belongs to one measurement is a flag
// only: a variable or a file that sets it would falsify the next.
type benchOptions struct {
	JSON bool   `option:"json" help:"print JSON and nothing else"`
	API  string `option:"api" help:"address of the API: host:port, or unix:///path"`

	at                              apiFinder
	host, file, expect, name, rtype string
	edns, do                        bool
	subnet, allowed, histogram      string
	load                            dnsload.Config
}

func newBench() *cobra.Command {
	bench := &cobra.Command{
		Use: "bench WHAT", Short: "measure a server",
		Long: "bench measures a server by asking it. `bench dns` is all there is to measure so far.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused(cmd, errors.New("bench takes what to measure: dns"))
			}
			return misused(cmd, fmt.Errorf("bench cannot measure %q, expected dns", args[0]))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	bench.AddCommand(newBenchDNS())
	return bench
}

func newBenchDNS() *cobra.Command {
	o := benchOptions{API: defaultClientOptions().API}
	cmd := &cobra.Command{
		Use:   "dns [ADDRESS[:PORT]]",
		Short: "ask a DNS server many questions and measure the answers",
		Long: `dns asks the server at ADDRESS, or that of --host, many questions. With --rate queries leave on a fixed schedule whatever the answers do, and
latency counts from when each was due (open loop); without it --window queries are kept outstanding, which finds the most a server can
do. Files are those of dnsperf and kxdpgun: NAME TYPE a line, and perhaps the flags E (EDNS) and D (EDNS with DNSSEC OK).

It loads this machine's loopback only; --yes-i-may-load ADDRESS names another server that you may load.
With --expect each question of a file is asked once and its answer compared: NAME TYPE RCODE COUNT [RDATA] a line, COUNT being the
records in the answer section, RDATA one of them.`,
		Example: `  zonecast bench dns 127.0.0.1:5300 --name www.example.net --time 5s
  zonecast bench dns --host host0 --file queries.txt --rate 50000 --interval 1s
  zonecast bench dns '[::1]:5300' --expect expect.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 == (o.host != "") {
				return misused(cmd, fmt.Errorf("%s takes one ADDRESS[:PORT], or --host; found %q", cmd.CommandPath(), args))
			}
			return nil
		},
	}
	declare(cmd, "", &o)
	o.at.declare(cmd)
	o.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		return o.run(cmd, append(args, "")[0])
	}
	return cmd
}

func (o *benchOptions) flags(cmd *cobra.Command) {
	f, l := cmd.Flags(), &o.load
	f.StringVar(&o.host, "host", "", "ask the API where this host answers DNS, instead of ADDRESS")
	f.StringVar(&o.file, "file", "", "file of queries; - is standard input")
	f.StringVar(&o.name, "name", "", "ask this name only")
	f.StringVar(&o.rtype, "type", "A", "the type asked with --name")
	f.StringVar(&o.expect, "expect", "", "file of expected answers: ask each question once and compare; - is standard input")
	f.Float64Var(&l.Rate, "rate", 0, "queries a second, whatever the answers do; 0: as fast as answers come")
	f.IntVar(&l.Window, "window", 256, "queries outstanding when there is no rate")
	f.BoolVar(&l.TCP, "tcp", false, "over TCP, with many queries on the way in each connection")
	f.IntVar(&l.Sockets, "sockets", 0, "sockets or connections, over all threads (default 8, or one a thread)")
	f.IntVar(&l.Threads, "threads", 1, "threads that send")
	f.IntSliceVar(&l.CPUs, "cpus", nil, "CPUs to pin the threads to, in turn")
	f.DurationVar(&l.Time, "time", 10*time.Second, "how long to send")
	f.Uint64Var(&l.Queries, "queries", 0, "send this many at the most; 0: until time is up")
	f.IntVar(&l.First, "first", 0, "the query of the file to begin with, from 0")
	f.DurationVar(&l.Timeout, "timeout", time.Second, "when an answer is too late, and the query lost")
	f.BoolVar(&o.edns, "edns", false, "send an OPT record that offers 1232 octets")
	f.BoolVar(&o.do, "do", false, "ask for DNSSEC records (sends EDNS)")
	f.StringVar(&o.subnet, "subnet", "", "client subnet to send, such as 192.0.2.0/24 (sends EDNS)")
	f.IntSliceVar(&l.ServerPIDs, "server-pid", nil, "processes of the server, on this machine: measure their CPU time")
	f.DurationVar(&l.Interval, "interval", 0, "print a line this often; 0: never")
	f.StringVar(&o.histogram, "histogram", "", "write the latencies to this file in HdrHistogram's text form")
	f.StringVar(&o.allowed, "yes-i-may-load", "", "ADDRESS outside this machine that you may load")
}

func (o *benchOptions) run(cmd *cobra.Command, target string) error {
	encoding, err := o.parse(cmd, target)
	if err != nil {
		return err
	}
	if o.host != "" {
		ctx, cancel := context.WithTimeout(cmd.Context(), defaultClientOptions().Timeout)
		o.load.Target, err = o.lookUp(ctx)
		cancel()
		if err != nil {
			return err
		}
	}
	if err := o.load.Validate(); err != nil {
		if refused := (*dnsload.TargetError)(nil); errors.As(err, &refused) {
			return usageError{hinted{err, "if it is yours to load, say --yes-i-may-load " + refused.Target.Addr().String()}}
		}
		return misused(cmd, err)
	}
	if o.expect != "" {
		return o.compare(cmd, encoding)
	}
	var q *dnsload.Queries
	if o.file != "" {
		q, err = readBench(cmd, o.file, func(r io.Reader, file string) (*dnsload.Queries, error) {
			return dnsload.ReadQueries(r, file, encoding)
		})
	} else {
		q, err = o.one(encoding)
	}
	if err != nil {
		return err
	}
	return o.measure(cmd, q)
}

// parse reads what flags say in words.
func (o *benchOptions) parse(cmd *cobra.Command, target string) (e dnsload.Encoding, err error) {
	given := 0
	for _, s := range []string{o.file, o.name, o.expect} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return e, misused(cmd, errors.New("what to ask is not clear, expected one of --file, --name and --expect"))
	}
	e = dnsload.Encoding{EDNS: o.edns, DO: o.do}
	if o.subnet != "" {
		if e.Subnet, err = netip.ParsePrefix(o.subnet); err != nil {
			return e, misused(cmd, fmt.Errorf("subnet %q, expected a prefix such as 192.0.2.0/24 or 2001:db8::/32", o.subnet))
		}
	}
	if o.allowed != "" {
		if o.load.Allowed, err = netip.ParseAddr(o.allowed); err != nil {
			return e, misused(cmd, fmt.Errorf("yes-i-may-load %q, expected an address such as 192.0.2.53", o.allowed))
		}
	}
	if target != "" {
		if o.load.Target, err = dnsAddress(target); err != nil {
			return e, misused(cmd, err)
		}
	}
	return e, nil
}

// dnsAddress reads ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. There are no names: what
// is loaded must be plain to see.
func dnsAddress(text string) (netip.AddrPort, error) {
	const port = 53
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(a, port), nil
	}
	t, err := netip.ParseAddrPort(text)
	if err != nil {
		return t, fmt.Errorf("target %q, expected an address such as 127.0.0.1:5300, [::1]:5300 or 127.0.0.1", text)
	}
	return t, nil
}

// lookUp asks the API where the host answers.
func (o *benchOptions) lookUp(ctx context.Context) (netip.AddrPort, error) {
	var none netip.AddrPort
	c, _, err := o.at.dial(ctx, o.API, "is zonecast running there? without --host, and with an address instead, no API is needed")
	if err != nil {
		return none, err
	}
	st, err := c.Control.Status(ctx)
	if err := errors.Join(explain(err), c.Close()); err != nil {
		return none, err
	}
	var names []string
	for _, d := range st.Datasets {
		for _, h := range d.Hosts {
			if h.Name == o.host {
				return dnsAddress(h.DNS)
			}
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return none, hinted{fmt.Errorf("host %q is not live, expected one of %q", o.host, slices.Compact(names)), "`zonecast status` shows all hosts"}
}

func (o *benchOptions) one(e dnsload.Encoding) (*dnsload.Queries, error) {
	name, err := record.ParseName(o.name)
	if err != nil {
		return nil, usageError{err}
	}
	t, err := record.ParseType(o.rtype)
	if err != nil {
		return nil, usageError{err}
	}
	return dnsload.OneQuery(name, t, e), nil
}

// readBench opens a file, or takes standard input, for read.
func readBench[T any](cmd *cobra.Command, file string, read func(io.Reader, string) (T, error)) (T, error) {
	if file == "-" {
		return read(cmd.InOrStdin(), "standard input")
	}
	f, err := os.Open(file)
	if err != nil {
		var none T
		return none, err
	}
	defer f.Close()
	return read(f, file)
}

func (o *benchOptions) measure(cmd *cobra.Command, q *dnsload.Queries) error {
	out := cmd.OutOrStdout()
	o.load.Each = func(v dnsload.Interval) { // what cannot be printed, the result cannot, either
		if o.JSON {
			_ = json.NewEncoder(out).Encode(map[string]any{"interval": viewInterval(v)})
			return
		}
		fmt.Fprintf(out, "%8.1f s  %10.0f answered/s  %6d lost  p50 %-9s p99 %-9s max %s\n", v.To.Seconds(),
			float64(v.Answered)/(v.To-v.From).Seconds(), v.Lost, micros(v.Latency.Quantile(.5)), micros(v.Latency.Quantile(.99)), micros(v.Latency.Max()))
	}
	r, err := dnsload.Run(cmd.Context(), o.load, q)
	if r == nil {
		return err
	}
	v := viewBench(o.load.WithDefaults(), r)
	if o.JSON {
		err = errors.Join(err, json.NewEncoder(out).Encode(v))
	} else {
		v.write(out)
	}
	if o.histogram != "" {
		err = errors.Join(err, writeTo(o.histogram, out, r.Latency.Write))
	}
	if err == nil && r.Answered == 0 {
		return hinted{fmt.Errorf("nothing was answered: %d queries sent to %s, %d lost", r.Sent, o.load.Target, r.Lost), "does a DNS server run there, and does it answer this machine?"}
	}
	return err
}

// compare is --expect.
func (o *benchOptions) compare(cmd *cobra.Command, encoding dnsload.Encoding) error {
	e, err := readBench(cmd, o.expect, func(r io.Reader, file string) (*dnsload.Expectations, error) {
		return dnsload.ReadExpectations(r, file, encoding)
	})
	if err != nil {
		return err
	}
	found, err := dnsload.Compare(cmd.Context(), o.load, e)
	wrong := []findingView{}
	for _, f := range found {
		wrong = append(wrong, findingView{f.Name.String(), f.Type.String(), f.Expectation.String(), f.Found})
	}
	out := cmd.OutOrStdout()
	switch {
	case o.JSON && err == nil:
		v := compareView{o.load.Target.String(), e.Len(), e.Len() - len(wrong), wrong}
		err = json.NewEncoder(out).Encode(v)
	case !o.JSON:
		for _, f := range wrong {
			fmt.Fprintf(out, "%s %s: expected %s, found %s\n", f.Name, f.Type, plain(f.Expected), plain(f.Found))
		}
		if err == nil {
			fmt.Fprintf(out, "%d of %s as expected\n", e.Len()-len(wrong), count(e.Len(), "answer"))
		}
	}
	if err == nil && len(wrong) > 0 {
		return fmt.Errorf("%d of %s from %s not as expected", len(wrong), count(e.Len(), "answer"), o.load.Target)
	}
	return err
}
