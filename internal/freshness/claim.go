package freshness

import (
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Source claims the freshness records and their zones.
const Source record.Source = "rule/fresh"

// Shards of Source: the zone of the records, that of one dataset when there are several, and
// its record.
const (
	ZoneShard  = "zone"
	zonePrefix = ZoneShard + "."
	textPrefix = "fresh."
)

// Shard has the record of a dataset.
func Shard(dataset string) string { return textPrefix + dataset }

// ZoneShardOf has the zone in which a dataset's record is, when there are several datasets.
func ZoneShardOf(dataset string) string { return zonePrefix + dataset }

// DatasetOf is the dataset that a shard of Source is of; false when it is of none.
func DatasetOf(shard string) (dataset string, ok bool) {
	if dataset, ok = strings.CutPrefix(shard, textPrefix); ok {
		return dataset, true
	}
	return strings.CutPrefix(shard, zonePrefix)
}
