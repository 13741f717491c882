package service_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/service"
)

type tuned struct {
	Fixed string        `option:"fixed" help:"x"`
	Few   int           `option:"few" help:"x" live:"true"`
	Pause time.Duration `option:"pause" help:"x" live:"true"`
	Zone  struct {
		Share float64  `option:"share" help:"x"`
		On    bool     `option:"on" help:"x"`
		Names []string `option:"names" help:"x"`
	} `option:"zone" live:"true"`
}

func (t tuned) Validate() error {
	if t.Few < 1 {
		return errors.New("few is below 1")
	}
	return nil
}

// TestOverlay puts what landed between variable and file.
func TestOverlay(t *testing.T) {
	root := &cobra.Command{Use: "zonecast"}
	service.ConfigFlag(root)
	cmd, other := &cobra.Command{Use: "a"}, &cobra.Command{Use: "b"}
	root.AddCommand(cmd, other)
	cfg, cfg2 := tuned{Few: 3, Pause: time.Second}, tuned{Few: 1}
	cfg.Zone.Names = []string{"x"}
	if err := errors.Join(service.Declare(cmd, "sec", &cfg), service.Declare(other, "two", &cfg2)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags([]string{"--sec-pause=5s", "--config", writeFile(t, "[sec]\nfew = 4\nzone-share = 0.5\n")}); err != nil {
		t.Fatal(err)
	}
	if err := service.Load(cmd, variables(map[string]string{"ZONECAST_SEC_ZONE_ON": "true"}), ""); err != nil {
		t.Fatal(err)
	}
	before := cfg
	got, kept, err := service.Overlay(cmd, &cfg, []byte(`{"sec":{"few":7,"pause":"9s","zone":{"on":false,"names":["a","b"]}},"two":{"zone_on":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := before
	want.Few, want.Zone.Names = 7, []string{"a", "b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"sec.pause (flag --sec-pause)", "sec.zone-on (variable ZONECAST_SEC_ZONE_ON)"}, kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	// What no longer lands is as in the file again.
	if got, _, err := service.Overlay(cmd, &cfg, []byte(`{}`)); err != nil || got.Few != 4 || got.Zone.Share != 0.5 {
		t.Errorf("%+v, %v", got, err)
	}
	if diff := cmp.Diff(before, cfg); diff != "" {
		t.Errorf("what was loaded has changed (-want +got):\n%s", diff)
	}
	for landed, want := range map[string]string{
		`{"sec":{"few":"7"}}`:                      "sec.few = \"7\": expected a whole number, found text in quotes",
		`{"sec":{"few":7.5}}`:                      "sec.few = 7.5: expected a whole number, found a number with a point",
		`{"sec":{"pause":9}}`:                      "sec.pause = 9: expected a duration such as 20ms or 1m30s in quotes, found a whole number",
		`{"sec":{"zone":{"names":["a",1]}}}`:       "element 2: expected text in quotes, found a whole number",
		`{"sec":{"few":null}}`:                     "sec.few = null: expected a whole number",
		`{"sec":{"few":[1]}}`:                      "sec.few = [1]: expected a whole number",
		`{"sec":{"fixed":"x"}}`:                    "sec.fixed cannot change while the program runs",
		`{"sec":{"feww":1}}`:                       "unknown key sec.feww; is sec.few meant?",
		`{"sec":{"few":0}}`:                        "few is below 1",
		`{"two":{"few":"x"}}`:                      "two.few",
		`{"sec":{"zone_on":true,"zone":{"on":1}}}`: "twice",
		`[]`:    "cannot unmarshal",
		`{} {}`: "something follows",
		`{"sec":{"few":9999999999999999999999999}}`: "out of range",
	} {
		got, _, err := service.Overlay(cmd, &cfg, []byte(landed))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", landed, err, want)
		}
		if diff := cmp.Diff(before, got); diff != "" {
			t.Errorf("%s: something was taken (-want +got):\n%s", landed, diff)
		}
	}
}

func FuzzOverlay(f *testing.F) {
	f.Add(`{"sec":{"few":7,"pause":"9s","zone":{"names":["a"]}}}`)
	f.Add(`{"few":1}`)
	f.Fuzz(func(t *testing.T, landed string) {
		cfg := tuned{Few: 3}
		cmd := newCommand(t, "sec", &cfg)
		if err := service.Load(cmd, variables(nil), ""); err != nil {
			t.Fatal(err)
		}
		if got, _, err := service.Overlay(cmd, &cfg, []byte(landed)); err == nil && got.Validate() != nil {
			t.Errorf("%q gave %+v", landed, got)
		}
	})
}
