package nft

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// ProbeFullyRandom finds out whether the kernel chooses source ports fully at
// random inside a range, by loading a rule that says so and reading it back.
// A kernel that also takes a flag nobody has defined ignores what it does not
// know, and proves nothing. It leaves rules behind: use a scratch namespace.
func ProbeFullyRandom() error {
	const name = "fairlead-probe"
	rule := Rule{L4Proto(unix.IPPROTO_TCP), Masquerade{Low: 32768, High: 60999, FullyRandom: true}}
	t := &Table{Name: name, Chains: []*Chain{{Name: "c", Type: NAT, Hook: Postrouting, Priority: 100, Rules: []Rule{rule}}}}
	if err := Apply(addTable(t)); err != nil {
		return fmt.Errorf("a fully random masquerade rule is refused: %w", err)
	}
	found, err := Read(name)
	if err != nil {
		return err
	}
	if len(found) != 1 || !found[0].Chains[0].holds(t.Chains[0].Rules) {
		return errors.New("the kernel dropped the fully-random flag of a rule")
	}
	unknown := slices.Clone(t.Chains[0].Rules)
	unknown[0] = Rule{masqueradeFlags(1 << 7)}
	err = Apply(addRules(t.id(), &Chain{Name: "c", Rules: unknown}))
	switch {
	case err == nil:
		return errors.New("the kernel takes a NAT flag that does not exist: what it takes proves nothing")
	case !errors.Is(err, unix.EINVAL):
		return fmt.Errorf("a NAT flag that does not exist is refused for another reason: %w", err)
	}
	return nil
}

// masqueradeFlags is a masquerade with arbitrary flags, which nft(8) cannot
// write.
type masqueradeFlags uint32

func (e masqueradeFlags) text() string { return fmt.Sprintf("masquerade flags %#x", uint32(e)) }
func (e masqueradeFlags) code() []instruction {
	return []instruction{{"masq", []attr{u32(unix.NFTA_MASQ_FLAGS, uint32(e))}}}
}
