package difftest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// WriteZones writes each zone to a file of its own in dir and enters its name into
// File, in a form that every server reads: each octet of an owner that is not a
// letter, a digit or one of -_* as \DDD, and RDATA with such names as RFC 3597 has
// it. Every third line has its owner in upper case: names are the same in any.
func WriteZones(dir string, zones []Zone) error {
	for i := range zones {
		z := &zones[i]
		z.File = fmt.Sprintf("zone-%03d", i)
		f, err := os.Create(filepath.Join(dir, z.File))
		if err != nil {
			return fmt.Errorf("write zone %s: %w", z.Apex, err)
		}
		if err := errors.Join(writeZone(f, *z), f.Close()); err != nil {
			return fmt.Errorf("write zone %s: %w", z.Apex, err)
		}
	}
	return nil
}

func writeZone(w io.Writer, z Zone) error {
	b := bufio.NewWriter(w)
	n := 0
	for _, first := range []bool{true, false} { // the SOA has to be the first
		for _, s := range z.Sets {
			if (s.Type == record.TypeSOA) != first {
				continue
			}
			owner := plainName(s.Owner)
			for _, d := range s.Data {
				if n++; n%3 == 0 {
					owner = strings.ToUpper(owner)
				}
				fmt.Fprintf(b, "%s %d IN %s %s\n", owner, s.TTL, s.Type, plainRdata(s.Type, d))
			}
		}
	}
	return b.Flush()
}

// plainName is the name with all octets but the usual ones as \DDD.
func plainName(n record.Name) string {
	if n == record.Root {
		return "."
	}
	var sb strings.Builder
	for ; n != record.Root; n = n.Parent() {
		for _, c := range []byte(n.FirstLabel()) {
			if usual(rune(c)) {
				sb.WriteByte(c)
			} else {
				fmt.Fprintf(&sb, "\\%03d", c)
			}
		}
		sb.WriteByte('.')
	}
	return sb.String()
}

func usual(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '*'
}

func plainRdata(t record.Type, rd record.Rdata) string {
	text := dnswire.FormatRdata(t, rd)
	odd := func(c rune) bool { return !usual(c) && !strings.ContainsRune(`. "=:#\`, c) }
	if strings.ContainsFunc(text, odd) || strings.Contains(text, `\`) && !strings.HasPrefix(text, `\#`) {
		return strings.TrimRight(fmt.Sprintf(`\# %d %x`, len(rd), string(rd)), " ")
	}
	return text
}
