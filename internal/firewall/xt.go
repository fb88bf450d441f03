package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// cString is the text before the zero that ends it.
func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}

// An extension is a match or a target of xtables: iptables-legacy and iptables-nft
// both use them (include/uapi/linux/netfilter/x_tables.h).
type extension struct {
	name     string
	revision byte
	info     []byte
}

// Of struct xt_conntrack_mtinfo3, and mtinfo2, which begins alike
// (include/uapi/linux/netfilter/xt_conntrack.h).
const (
	conntrackFlags  = 146 // which parts count; 1: the state
	conntrackInvert = 148
	conntrackStates = 150
	conntrackState  = 1
)

// match is what an extension says of a flow.
func (x extension) match() match {
	switch {
	case x.name == "comment":
		return always(yes)
	case x.name == "conntrack" && x.revision >= 2 && len(x.info) >= conntrackStates+2:
		number := func(at int) uint16 { return binary.NativeEndian.Uint16(x.info[at:]) }
		flags, a := number(conntrackFlags), isIt(number(conntrackStates)&stateNew != 0)
		if number(conntrackInvert)&conntrackState != 0 {
			a = a.not()
		}
		switch flags {
		case conntrackState:
			return always(a)
		default:
			if flags&conntrackState == 0 {
				a = maybe
			}
			return always(min(a, maybe))
		}
	case x.name == "state" && len(x.info) >= 4:
		return always(isIt(binary.NativeEndian.Uint32(x.info)&stateNew != 0))
	case x.name == "mark" && x.revision >= 1 && len(x.info) >= 9:
		mark, mask := binary.NativeEndian.Uint32(x.info), binary.NativeEndian.Uint32(x.info[4:])
		if mask != proxyMark {
			return always(maybe)
		}
		a := isIt(mark == 0)
		if x.info[8] != 0 {
			a = a.not()
		}
		return always(a)
	}
	return always(maybe)
}

func always(a answer) match { return func(flow) answer { return a } }

// goOn are the targets behind which the walk goes on (iptables-extensions(8)).
var goOn = map[string]bool{
	"AUDIT": true, "CHECKSUM": true, "CLASSIFY": true, "CONNMARK": true, "CONNSECMARK": true, "CT": true, "DSCP": true, "HL": true,
	"HMARK": true, "IDLETIMER": true, "LED": true, "LOG": true, "MARK": true, "NFLOG": true, "NOTRACK": true, "RATEEST": true,
	"SECMARK": true, "SET": true, "TCPMSS": true, "TCPOPTSTRIP": true, "TEE": true, "TOS": true, "TRACE": true, "TTL": true,
}

// target is what becomes of packets at an extension that is a target, of a rule that
// is described for people.
func (x extension) target(described string) outcome {
	switch {
	case x.name == "REJECT":
		return outcome{drop: true, by: described}
	case goOn[x.name]:
		return passed
	}
	return anything
}

// describe is a rule in words: its place in its chain, and what it does.
func describe(does string, number int, chain string) string {
	return fmt.Sprintf("rule %d of chain %s, which %s", number, chain, does)
}
