package zonecast_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// synonyms of keys in docs/service.md, and what to write instead.
var synonyms = map[string]string{
	"err": "error", "cause": "error or why",
	"after": "pause or took", "duration": "took", "elapsed": "took", "backoff": "pause", "interval": "every",
	"peer": "client", "remote": "client", "addr": "listen or client", "address": "listen or client",
	"octets": "size", "bytes": "size", "name": "host or server", "filename": "file", "directory": "dir", "rev": "revision",
}

// TestLogKeys compares the keys that log lines have with the table in
// docs/service.md: one thing has one key everywhere, so that people can search. A
// key that one package alone uses need not be there.
func TestLogKeys(t *testing.T) {
	used := map[string][]string{}
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (strings.HasPrefix(e.Name(), ".") && path != "." || e.Name() == "testdata"):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			keys, bad := logKeys(call)
			if bad != nil {
				t.Errorf("%s: key is not a literal", fset.Position(bad.Pos()))
			}
			for _, k := range keys {
				used[k] = append(used[k], fset.Position(call.Pos()).String())
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("docs/service.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "| key | what it is |\n")
	if !ok {
		t.Fatal("docs/service.md has no table of keys")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		cell := strings.Split(line, "|")[1]
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
			documented[m[1]] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(used)) {
		folders := map[string]bool{}
		for _, place := range used[k] {
			folders[filepath.Dir(place)] = true
		}
		if instead, bad := synonyms[k]; bad {
			t.Errorf("key %q is written %s: %s", k, instead, strings.Join(used[k], " "))
		} else if len(folders) > 1 && !documented[k] {
			t.Errorf("key %q is used by %d packages and not in docs/service.md: %s", k, len(folders), strings.Join(used[k], " "))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(documented)) {
		if used[k] == nil {
			t.Errorf("key %q is in docs/service.md, and no log line has it", k)
		}
	}
	if len(used) < 10 {
		t.Fatalf("only %d keys found: the test does not see the log lines", len(used))
	}
}

// logKeys gives the keys of a call of slog.Logger, and what stands where a key must
// be and is no literal.
func logKeys(call *ast.CallExpr) (keys []string, bad ast.Expr) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil, nil
	}
	receiver := strings.ToLower(lastName(sel.X))
	if receiver != "log" && receiver != "logger" {
		return nil, nil
	}
	var rest []ast.Expr
	switch sel.Sel.Name {
	case "Debug", "Info", "Warn", "Error":
		rest = call.Args[1:]
	case "With":
		rest = call.Args
	case "Log":
		rest = call.Args[3:]
	default:
		return nil, nil
	}
	if call.Ellipsis.IsValid() {
		return nil, nil
	}
	for i := 0; i < len(rest); i += 2 {
		lit, ok := rest[i].(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return keys, rest[i]
		}
		k, err := strconv.Unquote(lit.Value)
		if err != nil {
			return keys, lit
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	default:
		return fmt.Sprintf("%T", e)
	}
}
