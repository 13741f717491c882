package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/zonecast/zonecast/api/controlapi"
)

// effectView is what a change would do to the live traffic, as JSON; sampled 0 means that
// nothing is known, and unknown says why.
type effectView struct {
	Sampled  int64         `json:"sampled"`
	Hosts    int32         `json:"hosts"`
	Since    int64         `json:"since_ms,omitempty"`
	Until    int64         `json:"until_ms,omitempty"`
	Queries  int64         `json:"queries"`
	Share    float64       `json:"share"`
	Low      float64       `json:"low"`
	High     float64       `json:"high"`
	Kinds    []kindView    `json:"kinds"`
	Examples []exampleView `json:"examples"`
	More     int64         `json:"more"`
	NoName   float64       `json:"no_name"`
	Unknown  string        `json:"unknown,omitempty"`
}

type kindView struct {
	Kind  string  `json:"kind"`
	Share float64 `json:"share"`
}

type exampleView struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Share  float64 `json:"share"`
	Kind   string  `json:"kind"`
	Before string  `json:"before"`
	After  string  `json:"after"`
}

func viewEffect(e *controlapi.Effect) effectView {
	v := effectView{Kinds: []kindView{}, Examples: []exampleView{}}
	if e == nil {
		v.Unknown = "the server does not say"
		return v
	}
	v.Sampled, v.Hosts, v.Since, v.Until, v.Queries = e.Sampled, e.Hosts, e.SinceMs, e.UntilMs, e.Queries
	v.Share, v.Low, v.High, v.More, v.NoName, v.Unknown = e.Share, e.Low, e.High, e.More, e.NoName, e.Unknown
	for _, k := range e.Kinds {
		v.Kinds = append(v.Kinds, kindView{k.Kind, k.Share})
	}
	for _, x := range e.Examples {
		v.Examples = append(v.Examples, exampleView{x.Name, x.Type, x.Share, x.Kind, x.Before, x.After})
	}
	return v
}

// kindWords say what an answer becomes.
var kindWords = map[string]string{
	"nxdomain": "the name would be gone", "nodata": "nothing of the type would be there", "refused": "it would be in no zone", "failure": "it would fail",
	"referral": "other servers would be named", "alias": "it would lead elsewhere", "answer": "there would be an answer", "data": "other data",
	"ttl": "nothing but the TTL",
}

// percent says a share with two digits.
func percent(share float64) string {
	if share == 0 {
		return "0 %"
	}
	return strconv.FormatFloat(100*share, 'f', max(0, 1-int(math.Floor(math.Log10(max(100*share, 0.001))))), 64) + " %"
}

// writeEffect says it in words.
func writeEffect(w io.Writer, indent string, v effectView) {
	if v.Sampled == 0 {
		fmt.Fprintf(w, "%swhat it does to live queries is not known: %s\n", indent, plain(v.Unknown))
		return
	}
	from := fmt.Sprintf("%d sampled on %s in %s", v.Sampled, count(int(v.Hosts), "host"), (time.Duration(v.Until-v.Since) * time.Millisecond).Round(time.Second))
	if v.Share == 0 {
		fmt.Fprintf(w, "%sno live query (%s) would be answered otherwise: it is less than %s of them\n", indent, from, percent(v.High))
	} else {
		fmt.Fprintf(w, "%s%s of live queries (%s; %s to %s) would be answered otherwise", indent, percent(v.Share), from, percent(v.Low), percent(v.High))
		for i, k := range v.Kinds {
			sign := ","
			if i == 0 {
				sign = ":"
			}
			words := kindWords[k.Kind]
			if words == "" {
				words = plain(k.Kind)
			}
			if len(v.Kinds) > 1 {
				words += " " + percent(k.Share)
			}
			fmt.Fprintf(w, "%s %s", sign, words)
		}
		fmt.Fprintln(w)
	}
	for _, x := range v.Examples {
		fmt.Fprintf(w, "%s  %s %s %s -> %s %s\n", indent, plain(x.Name), plain(x.Type), plain(x.Before), plain(x.After), percent(x.Share))
	}
	if v.More > 0 {
		fmt.Fprintf(w, "%s  and %s more\n", indent, count(int(v.More), "question"))
	}
	if v.NoName >= 0.5 {
		fmt.Fprintf(w, "%s  %s of live queries ask for names that are not there: that makes the shares of others small\n", indent, percent(v.NoName))
	}
}
