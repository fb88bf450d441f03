package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/nfnl"
)

// attributes are those of one object, by type; numbers are big-endian.
type attributes map[uint16][]byte

func parse(b []byte) attributes {
	out := attributes{}
	nfnl.Each(b, func(typ uint16, body []byte) { out[typ] = body })
	return out
}

func (a attributes) u32(typ uint16) uint32 {
	if len(a[typ]) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a[typ])
}

func (a attributes) str(typ uint16) string { return cString(a[typ]) }

// A value is what a register of nftables holds.
type value struct {
	names func(flow) names // an interface
	index bool             // by its number
	bytes func(flow) []byte
	// zeroIn are bits that are known to be zero in a value that is not known.
	zeroIn uint32
}

func known(b ...byte) value { return value{bytes: func(flow) []byte { return b }} }

func host32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// A reading makes rules of the expressions of one
// (include/uapi/linux/netfilter/nf_tables.h).
type reading struct {
	table     *table
	described func(does string) string
	registers map[uint32]value
	rule      rule
	rules     []rule // where there is a map to verdicts, one for each
}

// register is a register by the number of its first four bytes: the large ones have
// numbers of their own.
func register(n uint32) uint32 {
	if n >= unix.NFT_REG_1 && n <= unix.NFT_REG_4 {
		return unix.NFT_REG32_00 + 4*(n-unix.NFT_REG_1)
	}
	return n
}

func (r *reading) set(n uint32, v value) { r.registers[register(n)] = v }
func (r *reading) get(n uint32) value    { return r.registers[register(n)] }
func (r *reading) needs(m match)         { r.rule.matches = append(r.rule.matches, m) }
func (r *reading) ends(then outcome)     { r.rule.then = then }
func (r *reading) forget()               { r.registers = map[uint32]value{}; r.needs(always(maybe)) }
func (r *reading) expression(body []byte) {
	expr := parse(body)
	a := parse(expr[unix.NFTA_EXPR_DATA])
	switch expr.str(unix.NFTA_EXPR_NAME) {
	case "meta":
		r.meta(a)
	case "ct":
		r.ct(a)
	case "payload":
		r.payload(a)
	case "bitwise":
		r.bitwise(a)
	case "cmp":
		r.cmp(a)
	case "lookup":
		r.lookup(a)
	case "immediate":
		if register(a.u32(unix.NFTA_IMMEDIATE_DREG)) == unix.NFT_REG_VERDICT {
			r.verdict(parse(parse(a[unix.NFTA_IMMEDIATE_DATA])[unix.NFTA_DATA_VERDICT]))
		} else {
			r.set(a.u32(unix.NFTA_IMMEDIATE_DREG), value{})
		}
	case "match":
		r.needs(extension{a.str(unix.NFTA_MATCH_NAME), byte(a.u32(unix.NFTA_MATCH_REV)), a[unix.NFTA_MATCH_INFO]}.match())
	case "target":
		r.ends(extension{name: a.str(unix.NFTA_TARGET_NAME)}.target(r.described("rejects")))
	case "reject":
		r.ends(outcome{drop: true, by: r.described("rejects")})
	case "counter", "log", "last", "notrack", "dup", "flow_offload":
	case "limit", "quota", "connlimit", "dynset", "objref", "byteorder", "fib", "rt", "socket", "osf", "exthdr", "numgen", "hash", "tunnel", "xfrm", "inner":
		r.forget() // and what they load, or whether they let pass
	default:
		r.ends(anything)
	}
}

// verdict is one as attributes of NFTA_DATA_VERDICT.
func (r *reading) verdict(v attributes) {
	switch code := int32(v.u32(unix.NFTA_VERDICT_CODE)); code {
	case unix.NFT_JUMP, unix.NFT_GOTO:
		r.rule.to, r.rule.away = v.str(unix.NFTA_VERDICT_CHAIN), code == unix.NFT_GOTO
	case unix.NFT_RETURN:
		r.rule.then, r.rule.back = passed, true
	case unix.NFT_CONTINUE, unix.NFT_BREAK:
	case 0: // NF_DROP
		r.ends(outcome{drop: true, by: r.described("drops")})
	case 1: // NF_ACCEPT
		r.ends(accepted)
	default:
		r.ends(anything)
	}
}

func (r *reading) meta(a attributes) {
	if _, loads := a[unix.NFTA_META_DREG]; !loads {
		return // it sets something
	}
	var v value
	switch a.u32(unix.NFTA_META_KEY) {
	case unix.NFT_META_IIFNAME:
		v.names = func(f flow) names { return f.in }
	case unix.NFT_META_IIF:
		v.names, v.index = func(f flow) names { return f.in }, true
	case unix.NFT_META_OIF:
		v.names, v.index = func(f flow) names { return f.out }, true
	case unix.NFT_META_OIFNAME:
		v.names = func(f flow) names { return f.out }
	case unix.NFT_META_NFPROTO:
		v.bytes = func(f flow) []byte { return []byte{f.nfproto()} }
	case unix.NFT_META_L4PROTO:
		v = known(protoTCP)
	case unix.NFT_META_MARK:
		v.zeroIn = proxyMark
	}
	r.set(a.u32(unix.NFTA_META_DREG), v)
}

// translated are the bits of a connection's status that say that its source or
// destination was translated (IPS_SRC_NAT, IPS_DST_NAT).
const translated = 1<<4 | 1<<5

func (r *reading) ct(a attributes) {
	if _, loads := a[unix.NFTA_CT_DREG]; !loads {
		return
	}
	var v value
	switch a.u32(unix.NFTA_CT_KEY) {
	case unix.NFT_CT_STATE:
		v = known(host32(stateNew)...)
	case unix.NFT_CT_DIRECTION:
		v = known(0)
	case unix.NFT_CT_STATUS:
		v.zeroIn = translated
	}
	r.set(a.u32(unix.NFTA_CT_DREG), v)
}

// payload knows the protocol in a header of IPv4, and nothing else.
func (r *reading) payload(a attributes) {
	if _, loads := a[unix.NFTA_PAYLOAD_DREG]; !loads {
		return
	}
	var v value
	if a.u32(unix.NFTA_PAYLOAD_BASE) == unix.NFT_PAYLOAD_NETWORK_HEADER && a.u32(unix.NFTA_PAYLOAD_OFFSET) == 9 && a.u32(unix.NFTA_PAYLOAD_LEN) == 1 {
		v.bytes = func(f flow) []byte {
			if f.ipv6 {
				return nil
			}
			return []byte{protoTCP}
		}
	}
	r.set(a.u32(unix.NFTA_PAYLOAD_DREG), v)
}

func dataOf(b []byte) []byte { return parse(b)[unix.NFTA_DATA_VALUE] }

func (r *reading) bitwise(a attributes) {
	const operation = 6 // NFTA_BITWISE_OP; 0: mask and xor
	from, mask, xor := r.get(a.u32(unix.NFTA_BITWISE_SREG)), dataOf(a[unix.NFTA_BITWISE_MASK]), dataOf(a[unix.NFTA_BITWISE_XOR])
	var v value
	switch {
	case a.u32(operation) != 0 || len(mask) == 0 || len(mask) != len(xor):
	case from.zeroIn != 0 && len(mask) == 4 && binary.NativeEndian.Uint32(mask)&^from.zeroIn == 0:
		v = known(xor...)
	case from.bytes != nil:
		v.bytes = func(f flow) []byte {
			b := from.bytes(f)
			if len(b) != len(mask) {
				return nil
			}
			out := make([]byte, len(b))
			for i := range b {
				out[i] = b[i]&mask[i] ^ xor[i]
			}
			return out
		}
	}
	r.set(a.u32(unix.NFTA_BITWISE_DREG), v)
}

func (r *reading) cmp(a attributes) {
	v, data := r.get(a.u32(unix.NFTA_CMP_SREG)), dataOf(a[unix.NFTA_CMP_DATA])
	op := a.u32(unix.NFTA_CMP_OP)
	if op != unix.NFT_CMP_EQ && op != unix.NFT_CMP_NEQ {
		r.needs(always(maybe))
		return
	}
	r.needs(func(f flow) answer {
		is := v.equals(f, data)
		if op == unix.NFT_CMP_NEQ {
			return is.not()
		}
		return is
	})
}

// equals reports whether a value is what is compared with: of an interface, a name
// with its end, or the beginning of one without.
func (v value) equals(f flow, data []byte) answer {
	if v.index && len(data) == 4 {
		return v.names(f).are(names{name: interfaceName(binary.NativeEndian.Uint32(data))})
	}
	if v.names != nil {
		name := cString(data)
		return v.names(f).are(names{name, len(name) == len(data)})
	}
	if v.bytes != nil {
		if b := v.bytes(f); len(b) == len(data) {
			return isIt(bytes.Equal(b, data))
		}
	}
	return maybe
}

// interfaceName is the name of an interface by its number. Where there is none, so is
// its number: no interface has the name that is returned.
func interfaceName(index uint32) string {
	nobody := fmt.Sprintf("if%d/", index)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nobody
	}
	defer unix.Close(fd)
	var q unix.Ifreq
	q.SetUint32(index)
	if unix.IoctlIfreq(fd, unix.SIOCGIFNAME, &q) != nil {
		return nobody
	}
	return q.Name()
}

// lookup looks into sets and maps without a name, which never change. Into others
// elements come and go without our hearing of it.
func (r *reading) lookup(a attributes) {
	v := r.get(a.u32(unix.NFTA_LOOKUP_SREG))
	to, maps := a[unix.NFTA_LOOKUP_DREG]
	verdicts := maps && binary.BigEndian.Uint32(to) == unix.NFT_REG_VERDICT
	elements, ok := r.table.elements(a.str(unix.NFTA_LOOKUP_SET))
	switch {
	case verdicts && !ok:
		r.ends(anything)
	case verdicts:
		for _, e := range elements {
			one := &reading{table: r.table, described: r.described}
			one.rule.matches = append(append([]match{}, r.rule.matches...), func(f flow) answer { return v.equals(f, e.key) })
			one.rule.then = passed
			one.verdict(e.verdict)
			r.rules = append(r.rules, one.rule)
		}
	case maps:
		r.set(binary.BigEndian.Uint32(to), value{})
		r.needs(always(maybe))
	case !ok:
		r.needs(always(maybe))
	default:
		inverted := a.u32(unix.NFTA_LOOKUP_FLAGS)&unix.NFT_LOOKUP_F_INV != 0
		r.needs(func(f flow) answer {
			is := no
			for _, e := range elements {
				is = max(is, v.equals(f, e.key))
			}
			if inverted {
				return is.not()
			}
			return is
		})
	}
}
