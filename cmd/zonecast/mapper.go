package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/mapper"
)

// mapperStage computes who is served by which PoP.
type mapperStage struct{ mapper.Config }

func (s *mapperStage) declare(cmd *cobra.Command) {
	s.Config = mapper.DefaultConfig()
	declare(cmd, "mapper", &s.Config)
}

func (s *mapperStage) add(n *node) error {
	m, err := mapper.New(s.Config, mapper.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer(), Name: processID()})
	if err != nil {
		return err
	}
	n.add("mapper", m.Run)
	n.mux.Handle("GET /mapper", m.Handler())
	n.warn("mapper", func() []string { return []string{m.Trouble()} })
	return nil
}

func newMapWhy() *cobra.Command {
	var o struct {
		JSON bool `option:"json" help:"print JSON and nothing else"`
	}
	var at string
	var resolver bool
	cmd := &cobra.Command{
		Use: "why ADDRESS", Short: "why the mapper serves an address where it does", Args: exactArgs("ADDRESS"),
		Long: `why asks a mapper that runs, and leads, why clients at ADDRESS are served by their PoP: the round-trip times to all of them, what these are known from,
what room there is worth, and what decided. How a name is answered there is what "map explain" tells.`,
		Example: "  zonecast map why 192.0.2.1 --http 127.0.0.1:7385",
	}
	declare(cmd, "", &o)
	cmd.Flags().StringVar(&at, "http", "", "address:port of the mapper (its --http)")
	cmd.Flags().BoolVar(&resolver, "resolver", false, "ADDRESS is that of a resolver")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if at == "" {
			return misused(cmd, errors.New("--http is missing, expected address:port of the mapper"))
		}
		query := url.Values{"address": {args[0]}}
		if resolver {
			query.Set("resolver", "1")
		}
		x, err := askMapper(cmd.Context(), "http://"+at+"/mapper?"+query.Encode())
		if err != nil {
			return err
		}
		if o.JSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(x)
		}
		return writeWhy(cmd.OutOrStdout(), x)
	}
	return cmd
}

// askMapper bounds what a mapper may say, and for how long.
func askMapper(ctx context.Context, at string) (x mapper.Explanation, err error) {
	const timeout, most = 5 * time.Second, 1 << 20
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return x, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return x, hinted{fmt.Errorf("ask the mapper: %w", err), "`zonecast run mapper --http 127.0.0.1:7385` runs one that can be asked"}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return x, fmt.Errorf("ask the mapper: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return x, fmt.Errorf("ask the mapper: %s", plain(strings.TrimSpace(string(b))))
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return x, fmt.Errorf("ask the mapper: %w", err)
	}
	return x, nil
}

func writeWhy(w io.Writer, x mapper.Explanation) error {
	prefix := x.Prefix
	if prefix == "" {
		prefix = "everybody else"
	}
	fmt.Fprintf(w, "%s is a %s of %s, demand %.6g\n", plain(x.Address), plain(x.Kind), plain(prefix), x.Demand)
	fmt.Fprintf(w, "served by %s: %s\n", plain(strings.Join(x.Order, ", then ")), plain(x.Why))
	if len(x.PoPs) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tPOP\tROUND TRIP\tFROM\tPRICE")
	for _, p := range x.PoPs {
		mark, price := "", fmt.Sprintf("%.1f ms", p.Price)
		if p.Chosen {
			mark = "=>"
		}
		if p.Price < 0 {
			price = "closed"
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f ms\t%s\t%s\n", mark, plain(p.Name), p.MS, plain(p.From), price)
	}
	return t.Flush()
}
