package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/control"
	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
)

// maxReply bounds what a host says, in octets.
const maxReply = 1 << 20

// glassOptions are those of commands that reach hosts without the store and the API.
type glassOptions struct {
	hosts []string
}

// declare has cmd do instead of its work without hosts when they are given.
func (o *glassOptions) declare(cmd *cobra.Command, instead func(cmd *cobra.Command, args []string) error) {
	cmd.Flags().StringSliceVar(&o.hosts, "direct", nil, "hand it to these hosts directly, without store and API: address:port or unix:PATH of their agents (--agent-direct), comma separated")
	usual := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(o.hosts) == 0 {
			return usual(cmd, args)
		}
		if err := load(cmd); err != nil {
			return err
		}
		return instead(cmd, args)
	}
}

// outcome is what one host said.
type outcome struct {
	At string `json:"at"`
	tree.DirectReply
}

// ask calls all hosts side by side.
func (o *glassOptions) ask(ctx context.Context, method string, body []byte) []outcome {
	out := make([]outcome, len(o.hosts))
	var wg sync.WaitGroup
	for i, at := range o.hosts {
		wg.Go(func() {
			reply, err := askHost(ctx, at, method, body)
			if err != nil {
				reply.Error = err.Error()
			}
			out[i] = outcome{at, reply}
		})
	}
	wg.Wait()
	return out
}

// askHost calls one host. No name is resolved: at has an address or a path.
func askHost(ctx context.Context, at, method string, body []byte) (reply tree.DirectReply, err error) {
	network, address := "tcp", at
	if path, unix := strings.CutPrefix(at, "unix:"); unix {
		network, address = "unix", path
	}
	var d net.Dialer
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, network, address) }}}
	req, err := http.NewRequestWithContext(ctx, method, "http://host/direct", bytes.NewReader(body))
	if err != nil {
		return reply, err
	}
	res, err := client.Do(req)
	if err != nil {
		return reply, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return reply, fmt.Errorf("host says %s: %.200q", res.Status, text)
	}
	return reply, nil
}

// act signs an act and has all hosts do it.
func (o *glassOptions) act(cmd *cobra.Command, change changeOptions, a operator.Act) error {
	if change.Key == "" {
		return misused(cmd, errors.New("--key is missing: hosts believe nobody but an operator"))
	}
	key, err := snapshot.LoadPrivateKey(change.Key)
	if err != nil {
		return err
	}
	dataset, err := cmd.Flags().GetString("dataset")
	if err != nil {
		return err
	}
	if dataset == "" { // there is nobody to ask
		dataset = control.DefaultConfig().Dataset
	}
	signed, err := operator.Sign(key, change.Author, a.Action, dataset, a.Args, time.Now())
	if err != nil {
		return err
	}
	return o.show(cmd, http.MethodPost, signed)
}

// show asks all hosts and prints what they say.
func (o *glassOptions) show(cmd *cobra.Command, method string, body []byte) error {
	timeout, err := cmd.Flags().GetDuration("timeout")
	if err != nil {
		return err
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	all := o.ask(ctx, method, body)
	failed := 0
	w := cmd.OutOrStdout()
	for _, x := range all {
		done := x.Error == "" && (method == http.MethodGet || x.Answered)
		if !done {
			failed++
		}
		if asJSON {
			continue
		}
		switch {
		case x.Error != "":
			fmt.Fprintf(w, "%s: %s\n", x.At, plain(x.Error))
		case method == http.MethodPost:
			fmt.Fprintf(w, "%s (%s): override %s: %s\n", x.At, plain(x.Host), plain(x.ID), plain(x.Text))
		default:
			fmt.Fprintf(w, "%s (%s): %s\n", x.At, plain(x.Host), count(len(x.Overrides), "direct override"))
			for _, d := range x.Overrides {
				fmt.Fprintf(w, "  %s\n", plain(direct.Text(d)))
			}
		}
	}
	if asJSON {
		if err := json.NewEncoder(w).Encode(all); err != nil {
			return err
		}
	}
	if failed > 0 {
		return hinted{fmt.Errorf("%d of %d hosts did not do it", failed, len(all)), "each says above why; the same command for those again does no harm to the others"}
	}
	return nil
}

// setDirect is the act of `override set --direct`.
func setDirect(args []string, ttl int64, length time.Duration, whole bool, reason string) operator.Act {
	return direct.Set(args[0], strings.ToUpper(args[1]), uint32(ttl), args[2:], length, whole, reason)
}
