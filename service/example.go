package service

import (
	"bufio"
	"cmp"
	"encoding"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Example writes a configuration file with every option of root and of the commands
// below it, each with its help and its default, commented out: what it says is what
// the program does without it. An option that several commands share is there once.
func Example(w io.Writer, root *cobra.Command) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "# Options of %s. A flag goes before a variable, a variable before this file,\n", root.Name())
	fmt.Fprintf(b, "# this file before the defaults, which are what is written here.\n")

	seen := map[string]bool{}
	var all []*option
	for _, o := range known(root) {
		if !seen[o.key()] {
			seen[o.key()] = true
			all = append(all, o)
		}
	}
	slices.SortStableFunc(all, func(a, b *option) int { return cmp.Compare(a.section, b.section) })

	section := ""
	for _, o := range all {
		if o.section != section {
			section = o.section
			fmt.Fprintf(b, "\n[%s]\n", section)
		}
		fmt.Fprintf(b, "\n# %s\n", strings.ReplaceAll(o.help, "\n", "\n# "))
		fmt.Fprintf(b, "# --%s, %s\n", o.flag(), o.env())
		def := o.def
		if o.secret {
			def = reflect.Zero(def.Type()) // what the program was built or started with is nobody's business
		}
		fmt.Fprintf(b, "#%s = %s\n", o.name, o.kind.formatTOML(def))
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write example: %w", err)
	}
	return nil
}

// formatTOML writes a value as a file has it.
func (k kind) formatTOML(v reflect.Value) string {
	if k.elem != nil {
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = k.elem.formatTOML(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	if _, ok := v.Interface().(encoding.TextMarshaler); !ok && k.toml[0] != "string" {
		return formatValue(v)
	}
	return quoteTOML(formatValue(v))
}

// quoteTOML writes a basic string (TOML 1.0, "String"); \u and \U of strconv are
// TOML's, its \x and \a are not.
func quoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			b.WriteString(`\u` + fmt.Sprintf("%04X", r))
		default:
			b.WriteString(string(r))
		}
	}
	return b.String() + `"`
}
