package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/snapshot"
)

// checkOptions are those of `check`.
type checkOptions struct {
	JSON bool `option:"json" help:"print JSON and nothing else"`
}

// checkView is what a snapshot file holds, as JSON.
type checkView struct {
	File    string `json:"file"`
	ID      string `json:"id"`
	Size    int64  `json:"size"` // octets
	Dataset string `json:"dataset"`
	Content uint64 `json:"content"`
	RRsets  int    `json:"rrsets"`
	Zones   int    `json:"zones"`
	Digest  string `json:"digest"`
}

// imageView is what an image holds, as JSON.
type imageView struct {
	File    string `json:"file"`
	Size    int64  `json:"size"`              // octets
	Dataset string `json:"dataset,omitempty"` // empty: of files
	Version uint64 `json:"version,omitempty"`
	Names   int    `json:"names"`
	RRsets  int    `json:"rrsets"`
	Records int    `json:"records"`
	Zones   int    `json:"zones"`
	// Longest is the most places that a search for a name looks at.
	Longest int `json:"longest"`
}

func newCheck() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check FILE…",
		Short: "check snapshot files",
		Long: `check reads snapshot files whole and says what is in them, or where they are wrong. They lie in DIR/snapshots of up,
and as snapshot files in the journal directories of hosts.`,
		Example: `  zonecast check .zonecast/snapshots/*.snapshot
  zonecast check image data.img`,
		Args: atLeastOneFile("check"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load(cmd); err != nil {
				return err
			}
			return checkFiles(cmd, args, o.JSON, checkSnapshot, "hosts set a damaged journal aside and fetch the data anew by themselves")
		},
	}
	declare(cmd, "", &o)
	cmd.AddCommand(newCheckImage())
	return cmd
}

func newCheckImage() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "image FILE…",
		Short: "check images that `build` or an authority made",
		Long: `image reads images whole: checksums, the order of names, what each name says of those below it, and that a search for
every name finds it. It says what is in them, or at which offset they are wrong.`,
		Example: `  zonecast check image data.img`,
		Args:    atLeastOneFile("check image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load(cmd); err != nil {
				return err
			}
			return checkFiles(cmd, args, o.JSON, checkImage, "build it anew; an authority does so by itself")
		},
	}
	declare(cmd, "", &o)
	return cmd
}

func atLeastOneFile(command string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return misused(cmd, errors.New(command+" takes at least one file"))
		}
		return nil
	}
}

// checkFiles checks each file; when one is damaged, hint says what to do.
func checkFiles(cmd *cobra.Command, paths []string, asJSON bool, check func(string) (fmt.Stringer, error), hint string) error {
	var failed error
	damaged := false
	for _, path := range paths {
		v, err := check(path)
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
			damaged = damaged || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission)
		case asJSON:
			failed = errors.Join(failed, json.NewEncoder(cmd.OutOrStdout()).Encode(v))
		default:
			_, err := io.WriteString(cmd.OutOrStdout(), v.String())
			failed = errors.Join(failed, err)
		}
	}
	if damaged {
		return hinted{failed, hint}
	}
	return failed
}

// snapshotView prints as snapshot.Report does, and as checkView in JSON.
type snapshotView struct {
	checkView
	text string
}

// String implements fmt.Stringer.
func (v snapshotView) String() string { return v.text }

func checkSnapshot(path string) (fmt.Stringer, error) {
	r, err := snapshot.Check(path)
	if err != nil {
		return nil, err
	}
	return snapshotView{checkView{path, r.ID.String(), r.Size, r.Dataset, r.Content, r.RRsets, r.Zones, r.Digest.String()}, fmt.Sprint(r)}, nil
}

// String implements fmt.Stringer.
func (v imageView) String() string {
	of := ""
	if v.Dataset != "" {
		of = fmt.Sprintf(" of dataset %s, version %d", v.Dataset, v.Version)
	}
	return fmt.Sprintf("%s: sound%s: %d zones, %d records in %d RRsets of %d names, %d octets\n", v.File, of, v.Zones, v.Records, v.RRsets, v.Names, v.Size)
}

func checkImage(path string) (fmt.Stringer, error) {
	m, err := image.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := m.Check()
	if err != nil {
		return nil, err
	}
	l := m.Label()
	return imageView{path, r.Octets, l.Dataset, l.Version, r.Names, r.Sets, r.Records, r.Zones, r.Longest}, nil
}
