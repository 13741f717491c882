package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/authority"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/service"
)

// serveOptions are those of `serve` beside the authority's.
type serveOptions struct {
	Format string `option:"format" help:"what the files are: auto, zone, tinydns, dnsrocks, cdb or image"`
	// Workers is the authority's udp-workers, as short as it is typed.
	Workers int `option:"workers" help:"UDP sockets for each address, each with its own thread; 0 is one for each CPU"`
}

func newServe() *cobra.Command {
	p := processOptions{LogOptions: defaultLog()}
	o := serveOptions{Format: "auto"}
	a := authority.FileConfig()
	cmd := &cobra.Command{
		Use:   "serve FILE…",
		Short: "answer DNS from files, without anything else",
		Long: `serve answers DNS from zone files, from tinydns or dnsrocks data, from a data.cdb that tinydns-data made, or from an image that
` + "`zonecast build`" + ` made, and from nothing else: no store, no journal, no agent. A file that changes is loaded anew; when it cannot be,
what was served stays. It prints a line that starts with "ready" when it answers.`,
		Example: `  zonecast serve --listen 127.0.0.1:5300 zones/*.zone
  zonecast serve --listen 127.0.0.1:5300 --format tinydns /etc/tinydns/root/data
  zonecast build --out data.img zones/*.zone && zonecast serve --listen 127.0.0.1:5300 data.img`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused(cmd, errors.New("serve takes at least one file"))
			}
			return nil
		},
	}
	declare(cmd, "", &p)
	declare(cmd, "", &o)
	declare(cmd, "", &a)
	for _, name := range []string{"dataset", "journal", "status-dir", "keys", "udp-workers"} {
		cmd.Flags().Lookup(name).Hidden = true
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if o.Workers != 0 {
			a.UDPWorkers = o.Workers
		}
		source, err := newDataFiles(args, o.Format)
		if err != nil {
			return err
		}
		return runNode(cmd, "serve", p, nil, func(n *node) error { return addServe(n, cmd, a, source) })
	}
	return cmd
}

// addServe adds an authority of files.
func addServe(n *node, cmd *cobra.Command, a authority.Config, source *dataFiles) error {
	began := time.Now()
	s, err := authority.New(a, authority.Deps{Log: n.log, Metrics: n.svc.Registerer(), Source: source})
	var in *net.OpError
	if errors.As(err, &in) && in.Op == "listen" {
		return inTheWay("--listen", in.Addr.String(), err)
	}
	if err != nil {
		return err
	}
	n.addAuthority("authority", s)
	n.mux.Handle("GET /top", s.Top())
	var at []string
	for _, addr := range s.Addrs() {
		at = append(at, addr.String())
	}
	zones, sets := s.Counts()
	// The sockets are bound: what is asked from now on waits there at worst.
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "ready on %s: %d zones, %d RRsets of %s files, loaded in %d ms\n",
		strings.Join(at, ", "), zones, sets, source.format, time.Since(began).Milliseconds())
	return err
}

// buildOptions are those of `build`.
type buildOptions struct {
	Out    string `option:"out" help:"image to write; it takes the place of one that is there"`
	Format string `option:"format" help:"what the files are: auto, zone, tinydns, dnsrocks or cdb"`
}

// Validate implements the kit's check.
func (o *buildOptions) Validate() error {
	if o.Out == "" {
		return service.Invalid("out", "the file to write, such as data.img")
	}
	return nil
}

func newBuild() *cobra.Command {
	o := buildOptions{Format: "auto"}
	cmd := &cobra.Command{
		Use:   "build --out IMAGE FILE…",
		Short: "make an image of files, to be served at once",
		Long: `build makes an image of zone files, tinydns or dnsrocks data, or a data.cdb: a file that ` + "`zonecast serve`" + ` maps into memory and answers from
as it lies there, so that a start takes no time whatever the size. Processes share it.`,
		Example: `  zonecast build --out data.img zones/*.zone`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused(cmd, errors.New("build takes at least one file"))
			}
			return nil
		},
	}
	declare(cmd, "", &o)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		began := time.Now()
		d, err := newDataFiles(args, o.Format)
		if err != nil {
			return err
		}
		if err := d.build(o.Out, image.Options{}); err != nil {
			return err
		}
		m, err := image.Open(o.Out)
		if err != nil {
			return err
		}
		names, sets, zones, records := m.Counts()
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d zones, %d records in %d RRsets of %d names, %d octets, in %d ms\n",
			o.Out, zones, records, sets, names, m.Size(), time.Since(began).Milliseconds())
		return err
	}
	return cmd
}
