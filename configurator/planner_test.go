package configurator

import "testing"

func TestDifferences(t *testing.T) {
	of := func(a, b string) string {
		t.Helper()
		d, err := differences([]byte(a), []byte(b))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	one := of(`{"a":{"x":1,"y":[1,2]},"b":2}`, `{"a":{"x":3,"y":[1,2]},"b":2}`)
	for _, tt := range []struct {
		what, a, b string
		same       bool
	}{
		{"others have changed another member", `{"a":{"x":1,"y":[9]},"b":5,"c":{}}`, `{"a":{"x":3,"y":[9]},"b":5,"c":{}}`, true},
		{"to another value", `{"a":{"x":1}}`, `{"a":{"x":4}}`, false},
		{"from another value", `{"a":{"x":2}}`, `{"a":{"x":3}}`, false},
		{"another member", `{"a":{"z":1}}`, `{"a":{"z":3}}`, false},
		{"a member of a name with a slash", `{"a/x":1}`, `{"a/x":3}`, false},
		{"one more", `{"a":{"x":1},"b":2}`, `{"a":{"x":3},"b":3}`, false},
		{"large numbers", `{"a":{"x":1},"n":12345678901234567890}`, `{"a":{"x":3},"n":12345678901234567891}`, false},
		{"a new configuration", ``, `{"a":{"x":3}}`, false},
	} {
		if got := of(tt.a, tt.b) == one; got != tt.same {
			t.Errorf("%s: the same difference: %v, want %v", tt.what, got, tt.same)
		}
	}
	if of(``, `{}`) == of(`{}`, ``) {
		t.Error("coming and going are the same")
	}
}
