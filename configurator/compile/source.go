package compile

import (
	"crypto/sha256"
	"fmt"
	"path"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/configurator/builtin"
	"github.com/zonecast/zonecast/configurator/idl"
)

// kind is what a file of a tree is.
type kind int

const (
	program   kind = iota + 1 // *.star: may export, may be loaded
	validator                 // <Type>.validate.star
	test                      // *_test.star
	types                     // *.thrift
)

const validatorSuffix = ".validate.star"

// kindOf tells what a file is by its name; ok is false when it is no source.
func kindOf(file string) (k kind, ok bool) {
	switch {
	case strings.HasSuffix(file, validatorSuffix):
		return validator, true
	case strings.HasSuffix(file, "_test.star"):
		return test, true
	case strings.HasSuffix(file, ".star"):
		return program, true
	case strings.HasSuffix(file, ".thrift"):
		return types, true
	}
	return 0, false
}

// Limits of a tree, our own choice: far above real ones.
const (
	maxFiles = 200_000
	maxFile  = idl.MaxFile // octets
	maxTree  = 512 << 20   // octets
)

// dialect is the language of programs: no recursion, no while, nothing assigned twice
// at the top level.
var dialect = &syntax.FileOptions{Set: true, TopLevelControl: true}

// loadOf is one load statement, or an include of a types file.
type loadOf struct {
	text string // as written
	file string // that it means; of an include the first that may be meant
	pos  Pos
}

// unit is a source, parsed. It is not changed.
type unit struct {
	file  string
	kind  kind
	sum   [sha256.Size]byte
	text  string // of a types file, which is parsed again when it is resolved
	loads []loadOf
	prog  *starlark.Program
	errs  Errors
}

// parse reads a source.
func (e *engine) parse(file, text string) *unit {
	k, _ := kindOf(file)
	u := &unit{file: file, kind: k, sum: sha256.Sum256([]byte(text))}
	switch {
	case file == builtin.TypesFile || file == builtin.FunctionsFile:
		u.errs = Errors{{Pos: Pos{File: file}, Msg: fmt.Sprintf("the name //%s is taken by what comes with zonecast: rename the file", file)}}
	case k == types:
		f, err := idl.Parse(file, text)
		if err != nil {
			u.errs = explain(file, err, 0)
			break
		}
		u.text = text
		for _, inc := range f.Includes {
			u.loads = append(u.loads, loadOf{inc.Path, "", Pos{file, inc.Line, inc.Col}})
		}
	default:
		f, err := dialect.Parse(file, text, 0)
		if err != nil {
			u.errs = explain(file, err, 0)
			break
		}
		if u.prog, err = starlark.FileProgram(f, e.predeclared(k).Has); err != nil {
			u.errs = explain(file, err, 0)
			break
		}
		for i := range u.prog.NumLoads() {
			text, pos := u.prog.Load(i)
			target, err := target(file, text)
			if err != nil {
				u.errs = append(u.errs, &Error{Pos: posOf(pos), Msg: fmt.Sprintf("load(%q): %v", clip(text, 200), err)})
				continue
			}
			u.loads = append(u.loads, loadOf{text, target, posOf(pos)})
		}
	}
	return u
}

// target is the file that a load statement of a file means.
func target(from, text string) (string, error) {
	var file string
	if rest, ok := strings.CutPrefix(text, "//"); ok {
		file = path.Clean(rest)
		if file != rest {
			return "", fmt.Errorf("path is not clean, expected //%s", file)
		}
	} else {
		file = path.Join(path.Dir(from), text)
	}
	switch k, ok := kindOf(file); {
	case text == "" || path.IsAbs(file) || file == ".." || strings.HasPrefix(file, "../"):
		return "", fmt.Errorf(`path leads out of the tree, expected "//folder/file.star" or one relative to the file's folder`)
	case !ok:
		return "", fmt.Errorf("expected a file whose name ends in .star or .thrift")
	case k == test:
		return "", fmt.Errorf("a test cannot be loaded")
	}
	return file, nil
}
