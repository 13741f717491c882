package zonefile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// Zone is a zone file read whole.
type Zone struct {
	Source  record.Source
	Apex    record.Name
	Claims  []record.Claim // in canonical order of their keys
	Records int            // records in the claims
	// Files is every file that was read, the zone file first, also when there was
	// an error: a change in any of them may change the zone.
	Files []string
	// Revision is the first 16 hexadecimal digits of SHA-256 over names and content
	// of Files.
	Revision string
}

// ErrNoZone means that a file has no SOA record, so that it is no zone but perhaps
// a part that others include.
var ErrNoZone = errors.New("no SOA record")

// importPrefix is where files that were imported by call live among the sources:
// apart from those of a directory, which go when their file goes.
const importPrefix = record.Source(record.KindZone + "/import/")

// ImportSourceOf is the source of a zone file that was imported by call:
// zone/import/<file>.
func ImportSourceOf(file string) (record.Source, error) {
	if strings.Contains(file, "/") {
		return "", fmt.Errorf("file name %q has a slash, expected a name without a directory", file)
	}
	s := importPrefix + record.Source(file)
	return s, s.Check()
}

// IsImport tells whether ImportSourceOf made the source.
func IsImport(s record.Source) bool { return strings.HasPrefix(string(s), string(importPrefix)) }

// SourceOf is the source of a zone file: zone/<file>.
func SourceOf(file string) (record.Source, error) {
	s := record.Source(record.KindZone + "/" + file)
	return s, s.Check()
}

// Origin is the name that a file's name says, which $ORIGIN in it overrides: the
// name without a ".zone" or ".db" behind or a "db." before it. The file "root" is
// the root zone's.
func Origin(file string) (record.Name, error) {
	base := file[strings.LastIndexByte(file, '/')+1:]
	name := base
	if rest, ok := strings.CutSuffix(name, ".zone"); ok {
		name = rest
	} else if rest, ok := strings.CutSuffix(name, ".db"); ok {
		name = rest
	} else if rest, ok := strings.CutPrefix(name, "db."); ok {
		name = rest
	}
	if name == "root" {
		return record.Root, nil
	}
	n, err := record.ParseName(name)
	if err != nil {
		return "", fmt.Errorf("file name %q is no zone's name: %w", base, err)
	}
	return n, nil
}

// Parse reads the zone file called file in fsys. who says by whom and when; the
// revision of each claim is the file's (who.Revision is not looked at). The zone
// is returned also beside an error, with Source, Files and, when all of them could
// be read, Revision.
//
// Like BIND it takes, where the records of an RRset differ in TTL, the first TTL of
// the last run of consecutive lines of the owner, drops duplicates, and refuses a second record of a type that has only one, and
// a CNAME beside other types. Unlike BIND, which ignores them with a warning,
// records outside the zone are an error: whoever wrote them expects them served.
func Parse(fsys fs.FS, file string, who record.Provenance) (*Zone, error) {
	return ParseUpTo(fsys, file, who, 0)
}

// ParseUpTo is Parse with a bound on the octets of names and RDATA, since a short
// file can make very many ($GENERATE). Zero means only the bounds of dnswire.
func ParseUpTo(fsys fs.FS, file string, who record.Provenance, most int) (*Zone, error) {
	z := &Zone{Files: []string{file}}
	var err error
	if z.Source, err = SourceOf(file); err != nil {
		return z, err
	}
	origin, err := Origin(file)
	if err != nil {
		return z, err
	}
	b := builder{source: z.Source, sets: map[record.Key]*set{}, most: most}
	hashed := &hashFS{FS: fsys, sums: map[string][]byte{}}
	z.Files, err = dnswire.ParseZone(hashed, file, origin, b.add)
	z.Revision = hashed.revision(z.Files)
	if err != nil {
		return z, err
	}
	if b.soaPlace == "" {
		return z, fmt.Errorf("%s:1: %w: a zone starts with one", file, ErrNoZone)
	}
	z.Apex = b.apex
	who.Revision = z.Revision
	z.Claims, z.Records, err = b.claims(who)
	return z, err
}

// builder gathers records to RRsets.
type builder struct {
	source   record.Source
	apex     record.Name
	soaPlace string
	sets     map[record.Key]*set
	keys     []record.Key // of sets, in the order of the file: mostly sorted already

	most, octets int // of owners and RDATA; most zero: no bound

	owner record.Name // of the record before
	run   int         // counts the runs of consecutive records of one owner
}

type set struct {
	ttl   uint32
	run   int // that ttl is from
	data  []record.Rdata
	place string
}

func (b *builder) add(owner record.Name, t record.Type, ttl uint32, rd record.Rdata, place string) error {
	if t == record.TypeSOA {
		if b.soaPlace != "" && owner != b.apex {
			return fmt.Errorf("second SOA, for %s, the first at %s is for %s: one file is one zone", owner, b.soaPlace, b.apex)
		}
		b.apex, b.soaPlace = owner, cmp.Or(b.soaPlace, place)
	}
	if b.octets += len(owner) + len(rd); b.most > 0 && b.octets > b.most {
		return fmt.Errorf("more than %d octets of names and RDATA", b.most)
	}
	if owner != b.owner {
		b.owner = owner
		b.run++
	}
	k := record.Key{Owner: owner, Type: t}
	s := b.sets[k]
	if s == nil {
		s = &set{place: place}
		b.sets[k] = s
		b.keys = append(b.keys, k)
	}
	if s.run != b.run {
		s.ttl, s.run = ttl, b.run
	}
	if Single(t) && len(s.data) > 0 && s.data[0] != rd {
		return fmt.Errorf("%s has a second %s record, the first is at %s", owner, t, s.place)
	}
	s.data = append(s.data, rd)
	return nil
}

// Single tells whether a name can have only one record of the type.
func Single(t record.Type) bool {
	return t == record.TypeSOA || t == record.TypeCNAME || t == record.TypeDNAME
}

func (b *builder) claims(who record.Provenance) (claims []record.Claim, records int, err error) {
	claims = make([]record.Claim, 0, len(b.keys))
	slices.SortFunc(b.keys, record.Key.Compare)
	for _, k := range b.keys {
		s := b.sets[k]
		c := record.Claim{RRset: record.NewRRset(k.Owner, k.Type, s.ttl, s.data...), Source: b.source, Provenance: who, Place: s.place}
		claims = append(claims, c)
		records += len(c.Data)
	}
	for i := range claims {
		c := &claims[i]
		if !c.Owner.IsSubdomainOf(b.apex) {
			return nil, 0, fmt.Errorf("%s:1: %s is outside the zone %s (its SOA is at %s)", c.Place, c.Owner, b.apex, b.soaPlace)
		}
		if err := c.Check(); err != nil {
			return nil, 0, fmt.Errorf("%s:1: %w", c.Place, err)
		}
		if c.Type == record.TypeCNAME {
			if other := beside(claims, i); other != nil {
				return nil, 0, fmt.Errorf("%s:1: %s has a CNAME and also %s at %s", c.Place, c.Owner, other.Type, other.Place)
			}
		}
	}
	return claims, records, nil
}

// Inherit gives claims, in order, with the provenance of before wherever the RRset
// was the same: who brought a record, and when, is not whoever touched the file
// last. It also keeps the shards that did not change. Both are in canonical order.
func Inherit(claims, before []record.Claim) []record.Claim {
	claims = slices.Clone(claims)
	for i, k := 0, 0; i < len(claims) && k < len(before); {
		switch c := claims[i].Key.Compare(before[k].Key); {
		case c < 0:
			i++
		case c > 0:
			k++
		default:
			if claims[i].RRset.Equal(before[k].RRset) {
				claims[i].Provenance = before[k].Provenance
			}
			i++
			k++
		}
	}
	return claims
}

// beside finds an RRset of the owner of claims[i], a CNAME, that cannot be with it.
func beside(claims []record.Claim, i int) *record.Claim {
	first := i
	for first > 0 && claims[first-1].Owner == claims[i].Owner {
		first--
	}
	for j := first; j < len(claims) && claims[j].Owner == claims[i].Owner; j++ {
		if !WithCNAME(claims[j].Type) {
			return &claims[j]
		}
	}
	return nil
}

// WithCNAME tells whether records of the type may be at a name that has a CNAME:
// that itself, RRSIG, NSEC and KEY (RFC 2181 §10.1, RFC 4034 §2.5).
func WithCNAME(t record.Type) bool {
	const key record.Type = 25
	return t == record.TypeCNAME || t == record.TypeRRSIG || t == record.TypeNSEC || t == key
}

// hashFS hashes the files that are read through it.
type hashFS struct {
	fs.FS
	sums map[string][]byte
}

func (h *hashFS) Open(name string) (fs.File, error) {
	f, err := h.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &hashFile{File: f, name: name, to: h, sum: sha256.New()}, nil
}

// Stat does not open: opening a named pipe waits for a writer.
func (h *hashFS) Stat(name string) (fs.FileInfo, error) { return fs.Stat(h.FS, name) }

type hashFile struct {
	fs.File
	name string
	to   *hashFS
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (f *hashFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.sum.Write(b[:n])
	if err == io.EOF {
		f.to.sums[f.name] = f.sum.Sum(nil)
	}
	return n, err
}

// revision is "" when a file was not read to its end.
func (h *hashFS) revision(files []string) string {
	all := sha256.New()
	for _, name := range files {
		sum, ok := h.sums[name]
		if !ok && name == files[0] {
			return ""
		}
		fmt.Fprintf(all, "%s\x00%x\n", name, sum) // without sum: it could not be read
	}
	return hex.EncodeToString(all.Sum(nil)[:8])
}
