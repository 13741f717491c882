package service

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envPrefix begins the name of every variable.
const envPrefix = "ZONECAST_"

// optionName is what sections and names look like; Declare refuses others.
var optionName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// Declare makes the fields of the struct that cfg points to options of cmd. Fields
// with the tag `option:"name" help:"what it is"` take part; their values now are
// the defaults. An option called name in a section called sec is
//
//	flag      --sec-name
//	variable  ZONECAST_SEC_NAME   (upper case, - becomes _)
//	file      name, in the table [sec]
//
// and without a section (""): --name, ZONECAST_NAME, and name above all tables.
//
// Types: string, bool, int, int64, uint64, float64, time.Duration, everything with
// UnmarshalText (netip.Addr, netip.AddrPort, slog.Level, ...), and slices of these,
// which a flag or a variable writes with commas and a file as an array. A struct
// field with a tag is a group: its options are called name-inner; an embedded
// struct is taken as if its fields were cfg's own. The tag `secret:"true"` keeps
// the value out of Origins and help; `live:"true"`, of a field or a group, says that
// Overlay may change it while the program runs.
//
// The fields are set by Load and by the command's flags.
func Declare(cmd *cobra.Command, section string, cfg any) error {
	return declare(cmd.Flags(), section, cfg)
}

// DeclarePersistent is Declare for cmd and all commands below it.
func DeclarePersistent(cmd *cobra.Command, section string, cfg any) error {
	return declare(cmd.PersistentFlags(), section, cfg)
}

func declare(flags *pflag.FlagSet, section string, cfg any) error {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("declare options of section %q: got %T, expected a pointer to a struct", section, cfg)
	}
	if section != "" && !optionName.MatchString(section) {
		return fmt.Errorf("declare options of section %q: the name does not match %v", section, optionName)
	}
	found := 0
	if err := declareFields(flags, section, inside{}, cfg, v.Elem(), &found); err != nil {
		return fmt.Errorf("declare options of section %q: %w", section, err)
	}
	if found == 0 {
		return fmt.Errorf("declare options of section %q: %T has no field with the tag option", section, cfg)
	}
	return nil
}

// inside is where within the struct that was given to Declare fields are.
type inside struct {
	group string
	live  bool
	index []int // as reflect's FieldByIndex takes it
}

func declareFields(flags *pflag.FlagSet, section string, in inside, root any, v reflect.Value, found *int) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		index := append(slices.Clone(in.index), i)
		name, tagged := field.Tag.Lookup("option")
		if !tagged {
			if field.Anonymous && field.Type.Kind() == reflect.Struct {
				if err := declareFields(flags, section, inside{in.group, in.live, index}, root, v.Field(i), found); err != nil {
					return err
				}
			}
			continue
		}
		if !field.IsExported() {
			return fmt.Errorf("field %s: it is not exported", field.Name)
		}
		if !optionName.MatchString(name) {
			return fmt.Errorf("field %s: the name %q does not match %v", field.Name, name, optionName)
		}
		if in.group != "" {
			name = in.group + "-" + name
		}
		live := in.live || field.Tag.Get("live") == "true"
		kind, err := kindOf(field.Type)
		if err != nil && field.Type.Kind() == reflect.Struct {
			if err := declareFields(flags, section, inside{name, live, index}, root, v.Field(i), found); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("field %s: %w", field.Name, err)
		}
		o := &option{
			section: section, name: name, help: field.Tag.Get("help"), secret: field.Tag.Get("secret") == "true",
			kind: kind, root: root, seq: *found, index: index, live: live, field: v.Field(i), from: fromDefault,
		}
		if o.help == "" {
			return fmt.Errorf("field %s: option %s has no help", field.Name, name)
		}
		o.def = copyValue(o.field)
		if flags.Lookup(o.flag()) != nil {
			return fmt.Errorf("field %s: there is already a flag --%s", field.Name, o.flag())
		}
		f := flags.VarPF(o, o.flag(), "", o.help)
		if kind.name == "bool" {
			f.NoOptDefVal = "true"
		}
		if o.secret {
			f.DefValue = ""
		}
		o.usage()(f)
		*found++
	}
	return nil
}

// option is a field of a configuration struct. It is the Value of its flag, which is
// how Load finds all options of a command without a list beside cobra's own.
type option struct {
	section, name, help string
	secret              bool
	kind                kind
	root                any           // what Declare was given
	seq                 int           // in root
	index               []int         // of the field in what root points to
	live                bool          // may change while the program runs
	field               reflect.Value // the value in force
	def                 reflect.Value // a copy of the value at Declare
	from                from
	place               string // file:line, for fromFile
	flagged             bool   // the flag was given at least once
}

// from says which source an option's value is from; higher wins.
type from int

const (
	fromDefault from = iota
	fromFile
	fromEnv
	fromFlag
)

func (o *option) flag() string {
	if o.section == "" {
		return o.name
	}
	return o.section + "-" + o.name
}

func (o *option) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(o.flag(), "-", "_"))
}

// key is the option's name in a file and to people.
func (o *option) key() string {
	if o.section == "" {
		return o.name
	}
	return o.section + "." + o.name
}

// origin says in words where the value is from.
func (o *option) origin() string {
	switch o.from {
	case fromFlag:
		return "flag --" + o.flag()
	case fromEnv:
		return "variable " + o.env()
	case fromFile:
		return "file " + o.place
	}
	return "default"
}

// text is the value in force, as people may see it.
func (o *option) text() string {
	if o.secret {
		return "(secret)"
	}
	return formatValue(o.field)
}

// usage gives what help says about the option.
func (o *option) usage() func(*pflag.Flag) {
	u := fmt.Sprintf("%s [%s; %s]", o.help, o.env(), o.key())
	if o.from == fromEnv || o.from == fromFile {
		u += fmt.Sprintf(" (now %s, from %s)", o.text(), o.origin())
	}
	return func(f *pflag.Flag) { f.Usage = u }
}

// String, Set and Type make an option a pflag.Value.
func (o *option) String() string {
	if !o.field.IsValid() { // pflag makes a zero option to compare defaults with
		return ""
	}
	return formatValue(o.field)
}

// Type is the word for the value in help.
func (o *option) Type() string { return o.kind.name }

// Set is called by pflag for each time the flag is given. The first replaces the
// default, the next ones replace it again, or add to a list.
func (o *option) Set(text string) error {
	v := reflect.New(o.field.Type()).Elem()
	if err := o.kind.parse(v, text); err != nil {
		return err
	}
	if o.kind.elem != nil && o.flagged {
		v = reflect.AppendSlice(o.field, v)
	}
	o.field.Set(v)
	o.flagged = true
	return nil
}

// kind is how a type of field is written.
type kind struct {
	name string // for help
	want string // after "expected"
	// parse sets v from text; v is not touched when it fails.
	parse func(v reflect.Value, text string) error
	elem  *kind // of a slice
	// toml lists the TOML types that are good for it.
	toml []string
}

var (
	durationType    = reflect.TypeFor[time.Duration]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// wanted names what some types expect, by the type, for messages.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[netip.AddrPort]():
		return "an address and a port such as 192.0.2.1:53 or [2001:db8::1]:53"
	case reflect.TypeFor[netip.Addr]():
		return "an address such as 192.0.2.1 or 2001:db8::1"
	case reflect.TypeFor[netip.Prefix]():
		return "a prefix such as 192.0.2.0/24 or 2001:db8::/32"
	}
	return "a " + strings.ToLower(t.Name())
}

// kindOf is the kind of fields of type t.
func kindOf(t reflect.Type) (kind, error) {
	switch {
	case t == durationType:
		return scalar("duration", "a duration such as 20ms or 1m30s", []string{"string"}, func(v reflect.Value, s string) error {
			d, err := time.ParseDuration(s)
			if err == nil {
				v.SetInt(int64(d))
			}
			return err
		}), nil
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		want := wanted(t)
		return kind{name: strings.ToLower(t.Name()), want: want, toml: []string{"string"}, parse: func(v reflect.Value, s string) error {
			fresh := reflect.New(t)
			if err := fresh.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
				return fmt.Errorf("expected %s: %w", want, err)
			}
			v.Set(fresh.Elem())
			return nil
		}}, nil
	}
	switch t.Kind() {
	case reflect.String:
		return scalar("string", "text", []string{"string"}, func(v reflect.Value, s string) error {
			v.SetString(s)
			return nil
		}), nil
	case reflect.Bool:
		return scalar("bool", "true or false", []string{"bool"}, func(v reflect.Value, s string) error {
			b, err := strconv.ParseBool(s)
			if err == nil {
				v.SetBool(b)
			}
			return err
		}), nil
	case reflect.Int, reflect.Int64:
		return scalar("int", "a whole number", []string{"int"}, func(v reflect.Value, s string) error {
			n, err := strconv.ParseInt(s, 0, t.Bits())
			if err == nil {
				v.SetInt(n)
			}
			return err
		}), nil
	case reflect.Uint64:
		return scalar("uint", "a whole number, not negative", []string{"int"}, func(v reflect.Value, s string) error {
			n, err := strconv.ParseUint(s, 0, 64)
			if err == nil {
				v.SetUint(n)
			}
			return err
		}), nil
	case reflect.Float64:
		return scalar("number", "a number", []string{"int", "float"}, func(v reflect.Value, s string) error {
			n, err := strconv.ParseFloat(s, 64)
			if err == nil {
				v.SetFloat(n)
			}
			return err
		}), nil
	case reflect.Slice:
		elem, err := kindOf(t.Elem())
		if err != nil || elem.elem != nil {
			return kind{}, fmt.Errorf("options of type %v are not supported", t)
		}
		return kind{name: elem.name + ",...", want: "a list, each " + elem.want, toml: []string{"array"}, elem: &elem, parse: func(v reflect.Value, s string) error {
			list := reflect.MakeSlice(t, 0, 0)
			for part := range strings.SplitSeq(s, ",") {
				if part = strings.TrimSpace(part); part == "" {
					continue // "" is the empty list; a comma too many is no element
				}
				e := reflect.New(t.Elem()).Elem()
				if err := elem.parse(e, part); err != nil {
					return err
				}
				list = reflect.Append(list, e)
			}
			v.Set(list)
			return nil
		}}, nil
	}
	return kind{}, fmt.Errorf("options of type %v are not supported", t)
}

// scalar is a kind whose parser's own error says less than "expected want".
func scalar(name, want string, toml []string, parse func(reflect.Value, string) error) kind {
	return kind{name: name, want: want, toml: toml, parse: func(v reflect.Value, s string) error {
		err := parse(v, s)
		switch {
		case errors.Is(err, strconv.ErrRange):
			return fmt.Errorf("expected %s, found one out of range", want)
		case err != nil:
			return fmt.Errorf("expected %s", want)
		}
		return nil
	}}
}

// formatValue writes a value as a flag takes it.
func formatValue(v reflect.Value) string {
	if v.Kind() == reflect.Slice && !reflect.PointerTo(v.Type()).Implements(textUnmarshaler) {
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = formatValue(v.Index(i))
		}
		return strings.Join(parts, ",")
	}
	if v.Type() == durationType {
		return formatDuration(time.Duration(v.Int()))
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v.Interface())
}

// formatDuration is d.String without the zeros at its end: 5m, not 5m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// copyValue copies v so that appending to one does not write into the other.
func copyValue(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	if v.Kind() == reflect.Slice && !v.IsNil() {
		c.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v))
	}
	return c
}
