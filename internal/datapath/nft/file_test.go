package nft

import (
	"encoding/json"
	"slices"
	"testing"
)

// Every rule that was written to a file says the same when it is read, to people and
// to the kernel, and is the same to who compares.
func TestRulesReadBackTheSame(t *testing.T) {
	t.Parallel()
	for _, r := range slices.Concat(words, destinations) {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back Rule
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%s: %v", r, err)
		}
		if back.String() != r.String() || !back.same(r) || !FoundRule(encode(r.expressions())).is(back) {
			t.Errorf("%s came back as %s", r, back)
		}
		if other := append(slices.Clone(r), Return()); back.same(other) || FoundRule(encode(other.expressions())).is(back) {
			t.Errorf("%s is taken for %s", back, other)
		}
		was, now := oneRule(r), oneRule(back)
		for _, left := range [][]Change{DiffTables(was, now), DiffTables(now, was)} {
			if len(left) > 0 {
				t.Errorf("%s: a table that was written and read differs:\n%s", r, Text(left))
			}
		}
	}
}

func oneRule(r Rule) []*Table {
	return []*Table{{Name: "t", Chains: []*Chain{{Name: "c", Rules: []Rule{r}}}}}
}

// Elements are bytes, and any are kept.
func TestElementsReadBackTheSame(t *testing.T) {
	t.Parallel()
	for _, e := range []Elements{{}, Sorted([]Element{{Key: "\xff\x00", End: "\xfe"}, {Key: "", Data: "\x80"}, {Key: "a", Data: "b"}})} {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Elements
		if err := json.Unmarshal(text, &back); err != nil || !back.Equal(e) {
			t.Errorf("%s came back as %v (%v)", text, back, err)
		}
	}
}

// What is no rule of ours is refused.
func TestBrokenRulesAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`"accept"`,
		`{"text": "accept", "kode": ""}`,
		`{"text": "accept", "code": "x"}`,
		`{"text": "accept", "code": "AAAB"}`,         // no whole header
		`{"text": "accept", "code": "CAABAAAA"}`,     // longer than there is
		`{"text": "accept", "code": "BAABgA=="}`,     // an expression without a name
		`{"text": "accept", "code": "AAgAAQAAAAA="}`, // the other byte order
	} {
		var r Rule
		if err := json.Unmarshal([]byte(text), &r); err == nil {
			t.Errorf("%s is read as %s", text, r)
		}
	}
}
