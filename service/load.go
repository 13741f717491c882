package service

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// configFlag is the flag, and with envPrefix the variable, that names the file.
const configFlag = "config"

// ConfigFlag gives cmd and all commands below it the flag --config FILE.
func ConfigFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().String(configFlag, "", "read options from this TOML file ["+envPrefix+"CONFIG]")
}

// InvalidError is what a Validate method says about one option.
type InvalidError struct {
	Option   string // as in the tag
	Expected string // what would be valid
}

// Invalid makes an *InvalidError. Load adds the value and where it is from. Several
// are joined by errors.Join.
func Invalid(option, expected string) error { return &InvalidError{option, expected} }

func (e *InvalidError) Error() string { return e.Option + ": expected " + e.Expected }

// Load gives every option of cmd, whose flags were parsed, its value: that of the
// flag if it was given, else of the variable, else of the file, else the default.
// A variable that is set but empty counts as not set. file is a TOML file; "" means
// the one named by --config or ZONECAST_CONFIG, if any. Then it calls Validate on
// each declared struct that has it.
//
// The file is checked whole, also the values that a flag or a variable replaces: a
// key that no option of any command of the program has is an error, and so is a
// value of the wrong type. All errors found are joined; each says where the value
// is from, what it is and what was expected.
func Load(cmd *cobra.Command, env func(name string) (string, bool), file string) error {
	opts := options(cmd)
	if file == "" {
		file = configFile(cmd, env)
	}
	byKey := map[string]*option{}
	for _, o := range known(cmd.Root()) {
		byKey[o.key()] = o
	}
	flagged := map[*option]reflect.Value{}
	for _, o := range opts {
		byKey[o.key()] = o // cmd's own before another command's of the same key
		if o.flagged {
			flagged[o] = copyValue(o.field)
		}
		o.field.Set(copyValue(o.def))
		o.from, o.place = fromDefault, ""
	}
	var errs []error
	if file != "" {
		errs = append(errs, loadFile(file, byKey, opts))
	}
	for _, o := range opts {
		if text, ok := env(o.env()); ok && text != "" {
			if err := o.kind.parse(o.field, text); err != nil {
				errs = append(errs, fmt.Errorf("variable %s = %q: %w", o.env(), o.shown(text), err))
			}
			o.from = fromEnv
		}
		if v, ok := flagged[o]; ok {
			o.field.Set(v)
			o.from = fromFlag
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return validate(opts)
}

// shown is text unless it is a secret.
func (o *option) shown(text string) string {
	if o.secret {
		return "(secret)"
	}
	return text
}

// configFile is the file named by flag or variable.
func configFile(cmd *cobra.Command, env func(string) (string, bool)) string {
	f := cmd.Flags().Lookup(configFlag)
	if f == nil {
		return ""
	}
	if f.Changed {
		return f.Value.String()
	}
	file, _ := env(envPrefix + "CONFIG")
	return file
}

// options are those of cmd, with the persistent ones of its parents, by section and
// in the order of the struct.
func options(cmd *cobra.Command) []*option {
	seen := map[*option]bool{}
	collect := func(f *pflag.Flag) {
		if o, ok := f.Value.(*option); ok {
			seen[o] = true
		}
	}
	cmd.Flags().VisitAll(collect)
	cmd.PersistentFlags().VisitAll(collect)
	cmd.InheritedFlags().VisitAll(collect)
	var all []*option
	for o := range seen {
		all = append(all, o)
	}
	sortOptions(all)
	return all
}

func sortOptions(all []*option) {
	slices.SortFunc(all, func(a, b *option) int {
		return cmp.Or(cmp.Compare(a.section, b.section), cmp.Compare(a.seq, b.seq), cmp.Compare(a.name, b.name))
	})
}

// known are the options of cmd and of all commands below it.
func known(cmd *cobra.Command) []*option {
	all := options(cmd)
	for _, c := range cmd.Commands() {
		all = append(all, known(c)...)
	}
	return all
}

// validate calls Validate on the structs of opts.
func validate(opts []*option) error {
	var errs []error
	asked := map[any]bool{}
	for _, o := range opts {
		if asked[o.root] {
			continue
		}
		asked[o.root] = true
		if v, ok := o.root.(interface{ Validate() error }); ok {
			errs = append(errs, explain(opts, o, v.Validate()))
		}
	}
	return errors.Join(errs...)
}

// explain adds to a Validate's error what the user wrote, and where. first is an
// option of the struct that was validated.
func explain(opts []*option, first *option, err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, explain(opts, first, e))
		}
		return errors.Join(errs...)
	}
	var inv *InvalidError
	if errors.As(err, &inv) {
		for _, o := range opts {
			if o.root == first.root && o.name == inv.Option {
				return fmt.Errorf("%s = %q (%s): expected %s", o.key(), o.text(), o.origin(), inv.Expected)
			}
		}
	}
	if first.section != "" {
		return fmt.Errorf("options of [%s]: %w", first.section, err)
	}
	return fmt.Errorf("options: %w", err)
}

// Origin is one option and where its value is from.
type Origin struct {
	Section  string `json:"section,omitempty"`
	Name     string `json:"name"`
	Flag     string `json:"flag"`     // --presenter-gather
	Variable string `json:"variable"` // ZONECAST_PRESENTER_GATHER
	Key      string `json:"key"`      // presenter.gather
	Help     string `json:"help"`
	Value    string `json:"value"` // as a flag takes it; (secret) for secrets
	Default  string `json:"default"`
	// From is "default", "file PATH:LINE", "variable NAME" or "flag --NAME".
	From string `json:"from"`
}

// Origins tells of every option of cmd its value after Load and which source won.
func Origins(cmd *cobra.Command) []Origin {
	opts := options(cmd)
	all := make([]Origin, len(opts))
	for i, o := range opts {
		all[i] = Origin{
			Section: o.section, Name: o.name, Flag: "--" + o.flag(), Variable: o.env(), Key: o.key(), Help: o.help,
			Value: o.text(), Default: o.shown(formatValue(o.def)), From: o.origin(),
		}
	}
	return all
}

// Explain makes the help of cmd, and of the commands below it, say of each option
// that a variable or the file has set what it is now and where that is from. What
// Load has against them follows the help.
func Explain(cmd *cobra.Command, env func(name string) (string, bool)) {
	help := cmd.HelpFunc()
	cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
		err := Load(c, env, "")
		for _, set := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags(), c.InheritedFlags()} {
			set.VisitAll(func(f *pflag.Flag) {
				if o, ok := f.Value.(*option); ok {
					o.usage()(f)
				}
			})
		}
		help(c, args)
		// What is merely not given yet is no news to a person who reads help.
		set := configFile(c, env) != "" || slices.ContainsFunc(options(c), func(o *option) bool { return o.from == fromEnv })
		if err != nil && set {
			fmt.Fprintf(c.ErrOrStderr(), "\nThe options as they are set now are not valid:\n%v\n", err)
		}
	})
}
