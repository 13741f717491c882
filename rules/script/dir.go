package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing/fstest"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
)

// ParamsFile is the file beside the rules that has what they see as params: a JSON object.
const ParamsFile = "params.json"

// maxFiles bounds a directory of rules, with all below it.
const maxFiles = 10_000

// Path is the configuration that has the rules which landed: their files.
const Path = "rules"

// Folder is the folder of the repository that they are in, by which places name them.
const Folder = "rules"

// Landed reads the value of the configuration Path: {"files":{"NAME.star":"text",…}}.
func Landed(value []byte) (fs.FS, error) {
	var v struct {
		Files map[string]string `json:"files"`
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("rules: expected an object with files: %w", err)
	}
	if len(v.Files) > maxFiles {
		return nil, fmt.Errorf("rules: %d files, at most %d", len(v.Files), maxFiles)
	}
	files := fstest.MapFS{}
	for name, text := range v.Files {
		if !fs.ValidPath(name) || name == "." {
			return nil, fmt.Errorf("rules: %q is no name of a file", name)
		}
		files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
	}
	return files, nil
}

// Rule is a rule of a file.
type Rule interface {
	rules.Rule
	Uncertain(shard string) bool // see Program
	Digest() string
}

// Loaded is a rule of a directory, or why there is none.
type Loaded struct {
	Source record.Source
	File   string
	Rule   Rule // nil: see Err
	Err    error
}

// Load compiles the rules of a directory: each *.star file in it is one, but for tests
// (*_test.star); what they load lies in folders below. The error is one of the directory
// itself: then nothing is known of any rule.
func Load(files fs.FS) ([]Loaded, error) {
	params, err := readParams(files)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	var all []Loaded
	for _, e := range entries {
		source, is := SourceOf(e.Name())
		if e.IsDir() || !is {
			continue
		}
		l := Loaded{Source: source, File: e.Name()}
		if p, err := Compile(files, e.Name(), params); err != nil {
			l.Err = err
		} else {
			l.Rule = p
		}
		if err := l.Source.Check(); err != nil {
			return nil, fmt.Errorf("rules: file %s: %w", e.Name(), err)
		}
		all = append(all, l)
	}
	return all, nil
}

// SourceOf is the source of the rule that a file is, by its path below the folder; false when
// it is none: a test, parameters, what rules load.
func SourceOf(file string) (record.Source, bool) {
	name, is := strings.CutSuffix(file, ".star")
	if !is || strings.HasSuffix(name, "_test") || strings.Contains(name, "/") {
		return "", false
	}
	return record.Source(record.KindRule + "/" + name), true
}

func readParams(files fs.FS) (map[string]any, error) {
	text, err := fs.ReadFile(files, ParamsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("rules: %s has %d octets, at most %d", ParamsFile, len(text), maxFile)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	var params map[string]any
	if err := d.Decode(&params); err != nil {
		return nil, fmt.Errorf("rules: %s: expected a JSON object: %w", ParamsFile, err)
	}
	return params, nil
}

// Fingerprint changes when a file of the directory does; it reads none.
func Fingerprint(files fs.FS) (string, error) {
	var sb strings.Builder
	n := 0
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n++; n > maxFiles {
			return fmt.Errorf("has more than %d files", maxFiles)
		}
		if ext := path.Ext(name); ext != ".star" && name != ParamsFile {
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&sb, "%s %d %d\n", name, st.Size(), st.ModTime().UnixNano())
		return nil
	})
	return sb.String(), err
}
