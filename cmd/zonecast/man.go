package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// newMan writes the manual pages that a package has.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "write a manual page for each command", Hidden: true, Args: exactArgs("DIR"),
		Long: "man writes zonecast.1 and zonecast-COMMAND.1 into DIR, which is made if it is missing.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writeMan(cmd.Root(), args[0])
		},
	}
}

// writeMan writes the pages of cmd and of the commands below it.
func writeMan(cmd *cobra.Command, dir string) error {
	if err := os.WriteFile(filepath.Join(dir, manName(cmd)+".1"), manPage(cmd), 0o644); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue // hidden, or cobra's own help
		}
		if err := writeMan(c, dir); err != nil {
			return err
		}
	}
	return nil
}

// manName is the name of a command's page.
func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// roff is text as it is, in man(7): no line of it is a request.
func roff(text string) string {
	text = strings.ReplaceAll(text, `\`, `\e`)
	text = strings.ReplaceAll(text, "-", `\-`)
	return lineBegins.ReplaceAllString(text, `\&$1`)
}

var lineBegins = regexp.MustCompile(`(?m)^([.'])`)

func manPage(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	// No date: equal programs give equal pages.
	p(`.TH "%s" "1" "" "zonecast" "zonecast"`, strings.ToUpper(roff(manName(cmd))))
	p(".SH NAME")
	p(`%s \- %s`, roff(manName(cmd)), roff(cmd.Short))
	p(".SH SYNOPSIS")
	p(".B %s", roff(cmd.UseLine()))
	p(".SH DESCRIPTION")
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			p(".PP")
		}
		if strings.HasPrefix(paragraph, "  ") {
			p(".nf\n%s\n.fi", roff(paragraph))
			continue
		}
		p("%s", roff(paragraph))
	}
	if usages := strings.TrimRight(cmd.NonInheritedFlags().FlagUsagesWrapped(100), "\n"); usages != "" {
		p(".SH OPTIONS\n.nf\n%s\n.fi", roff(usages))
	}
	if usages := strings.TrimRight(cmd.InheritedFlags().FlagUsagesWrapped(100), "\n"); usages != "" {
		p(".SH OPTIONS OF ALL COMMANDS\n.nf\n%s\n.fi", roff(usages))
	}
	if cmd.Example != "" {
		p(".SH EXAMPLES\n.nf\n%s\n.fi", roff(cmd.Example))
	}
	p(".SH EXIT STATUS")
	p("0: what was asked is done. 1: it is not. 2: the command itself is wrong. 3: time was up. 4: config plan would change something.")
	var also []string
	if cmd.HasParent() {
		also = append(also, fmt.Sprintf(".BR %s (1)", roff(manName(cmd.Parent()))))
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			also = append(also, fmt.Sprintf(".BR %s (1)", roff(manName(c))))
		}
	}
	if len(also) > 0 {
		p(".SH SEE ALSO\n%s", strings.Join(also, ",\n"))
	}
	return b.Bytes()
}
