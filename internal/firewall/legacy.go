package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/world"
)

// A layout is where things stand in the tables of xtables of one family, and how to
// ask for them (include/uapi/linux/netfilter_ipv4/ip_tables.h, .../ip6_tables.h).
type layout struct {
	ipv6    bool
	names   string // the file that lists the tables there are
	domain  int
	level   int
	in, out int // names of interfaces; their masks stand 32 bytes behind
	proto   int
	flags   int
	leave   byte // of flags
	anyway  byte // of flags: proto counts; 0: it counts where it is not 0
	invert  int
	target  int // offset of the target from the beginning of the entry
	next    int
	size    int // of the entry before its matches
}

var layouts = []layout{
	{names: "ip_tables_names", domain: unix.AF_INET, level: unix.SOL_IP,
		in: 16, out: 32, proto: 80, flags: 82, leave: 0x02, invert: 83, target: 88, next: 90, size: 112},
	{names: "ip6_tables_names", ipv6: true, domain: unix.AF_INET6, level: unix.SOL_IPV6,
		in: 64, out: 80, proto: 128, flags: 131, leave: 0x04, anyway: 0x01, invert: 132, target: 140, next: 142, size: 168},
}

// Options of getsockopt(2), alike in both families, and sizes of what they answer.
const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES
	nameSize   = 32
	infoSize   = 84
	hooks      = 5
	forward    = 2  // NF_INET_FORWARD
	headSize   = 32 // of a match or target before its data
	ifnameSize = unix.IFNAMSIZ
	// mostBytes bounds the tables that are read. What is beyond is not known.
	mostBytes = 4 << 20
)

// legacy looks into the filter tables of iptables-legacy. To ask for a table makes
// it, so only those are asked for that there are.
func (l *look) legacy() error {
	var errs []error
	for _, at := range layouts {
		names, err := os.ReadFile("/proc/thread-self/net/" + at.names)
		if errors.Is(err, os.ErrNotExist) {
			continue // the kernel has no such tables
		}
		if err == nil && slices.Contains(strings.Fields(string(names)), "filter") {
			err = l.filterTable(at)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read iptables-legacy: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (l *look) filterTable(at layout) error {
	fd, err := unix.Socket(at.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	info := make([]byte, infoSize)
	copy(info, "filter")
	if err := getsockopt(fd, at.level, getInfo, info); err != nil {
		return err
	}
	number := func(n int) uint32 { return binary.NativeEndian.Uint32(info[nameSize+4*n:]) }
	begin, end, size := number(1+forward), number(1+hooks+forward), number(1+2*hooks+1)
	if size > mostBytes {
		return nil
	}
	const head = nameSize + 8 // its size, and room up to eight bytes
	b := make([]byte, head+int(size))
	copy(b, "filter")
	binary.NativeEndian.PutUint32(b[nameSize:], size)
	if err := getsockopt(fd, at.level, getEntries, b); err != nil {
		return err // EAGAIN: it changed meanwhile
	}
	t := xtables{layout: at, entries: b[head:]}
	policy, ok := t.policy(end)
	if !ok {
		return errors.New("the table is not laid out as expected")
	}
	t.parse(begin, end)
	filter := world.Filter{Family: "ip", Table: "filter", Chain: "FORWARD", Legacy: true}
	if at.ipv6 {
		filter.Family = "ip6"
	}
	l.judge(filter, at.ipv6, func(f flow) outcome {
		w := &walk{flow: f, load: t.chain, done: map[string]outcome{}}
		return w.base(t.starts[begin], policy)
	})
	return nil
}

func getsockopt(fd, level, option int, into []byte) error {
	size := uint32(len(into))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&into[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// xtables is one table.
type xtables struct {
	layout
	entries []byte
	starts  map[uint32]string // chains, by where they begin
	chains  map[string]*chain
}

func (t *xtables) chain(name string) (*chain, bool) {
	c, ok := t.chains[name]
	return c, ok
}

// An entry is a rule as it stands in the table.
type entry struct {
	at     uint32
	bytes  []byte // with its target
	target []byte
}

func (e entry) next() uint32     { return e.at + uint32(len(e.bytes)) }
func (e entry) namesChain() bool { return e.extension() == "ERROR" }
func (e entry) extension() string {
	return cString(e.target[2 : headSize-1])
}

// entry is the one at an offset, if there is one.
func (t *xtables) entry(at uint32) (entry, bool) {
	if int64(at)+int64(t.size) > int64(len(t.entries)) {
		return entry{}, false
	}
	e := t.entries[at:]
	to, next := int(binary.NativeEndian.Uint16(e[t.target:])), int(binary.NativeEndian.Uint16(e[t.next:]))
	if to < t.size || to+headSize+4 > next || next > len(e) {
		return entry{}, false
	}
	return entry{at, e[:next], e[to:next]}, true
}

// all visits the entries in order.
func (t *xtables) all(visit func(entry)) {
	for e, ok := t.entry(0); ok; e, ok = t.entry(e.next()) {
		visit(e)
	}
}

// standard is the verdict of a target, if it is no extension.
func (e entry) standard() (int32, bool) {
	return int32(binary.NativeEndian.Uint32(e.target[headSize:])), e.extension() == ""
}

// Verdicts as they stand in tables: -1 less that of the kernel, or the offset of a
// chain.
const (
	xtDrop   = -1
	xtAccept = -2
	xtReturn = -5
)

// policy is the verdict of the entry behind a built-in chain.
func (t *xtables) policy(at uint32) (outcome, bool) {
	e, ok := t.entry(at)
	if !ok {
		return outcome{}, false
	}
	verdict, ok := e.standard()
	switch {
	case ok && verdict == xtAccept:
		return accepted, true
	case ok && verdict == xtDrop:
		return outcome{drop: true, by: "its policy, which is to drop"}, true
	}
	return outcome{}, false
}

// parse makes chains of the entries: the built-in one from begin to end, and those
// that begin behind an entry with the target ERROR, which names them.
func (t *xtables) parse(begin, end uint32) {
	t.starts, t.chains = map[uint32]string{begin: "FORWARD"}, map[string]*chain{"FORWARD": {name: "FORWARD"}}
	t.all(func(e entry) {
		if e.namesChain() {
			name := cString(e.target[headSize:])
			t.starts[e.next()], t.chains[name] = name, &chain{name: name}
		}
	})
	var now *chain
	t.all(func(e entry) {
		if name, ok := t.starts[e.at]; ok {
			now = t.chains[name]
		}
		if e.at == end || e.namesChain() {
			now = nil
		}
		if now != nil {
			now.rules = append(now.rules, t.rule(e, now))
		}
	})
}

func (t *xtables) rule(from entry, in *chain) rule {
	const viaIn, viaOut, protocol, others = 0x01, 0x02, 0x40, 0x3c // of the flags that invert
	e := from.bytes
	inverted := e[t.invert]
	r := rule{then: passed}
	needs := func(m match, invert bool) {
		r.matches = append(r.matches, func(f flow) answer {
			if invert {
				return m(f).not()
			}
			return m(f)
		})
	}
	needs(func(f flow) answer { return f.in.are(t.pattern(e, t.in)) }, inverted&viaIn != 0)
	needs(func(f flow) answer { return f.out.are(t.pattern(e, t.out)) }, inverted&viaOut != 0)
	if p := binary.NativeEndian.Uint16(e[t.proto:]); p != 0 || t.anyway != 0 && e[t.flags]&t.anyway != 0 {
		needs(always(isIt(p == protoTCP)), inverted&protocol != 0)
	}
	if inverted&others != 0 || e[t.flags]&^(t.leave|t.anyway) != 0 || slices.ContainsFunc(e[:t.in], func(b byte) bool { return b != 0 }) {
		needs(always(maybe), false) // addresses, fragments, types of service
	}
	for m := e[t.size : len(e)-len(from.target)]; len(m) >= headSize; {
		size := int(binary.NativeEndian.Uint16(m))
		if size < headSize || size > len(m) {
			needs(always(maybe), false)
			break
		}
		needs(extension{cString(m[2 : headSize-1]), m[headSize-1], m[headSize:size]}.match(), false)
		m = m[size:]
	}
	t.then(&r, from, in)
	return r
}

// then fills in what r does.
func (t *xtables) then(r *rule, e entry, in *chain) {
	number := len(in.rules) + 1
	verdict, ok := e.standard()
	switch {
	case !ok:
		r.then = extension{name: e.extension()}.target(describe("rejects", number, in.name))
	case verdict == xtDrop:
		r.then = outcome{drop: true, by: describe("drops", number, in.name)}
	case verdict == xtAccept:
		r.then = accepted
	case verdict == xtReturn:
		r.back = true
	case verdict < 0:
		r.then = anything
	case uint32(verdict) == e.next(): // it does nothing
	case t.starts[uint32(verdict)] == "":
		r.then = anything
	default:
		r.to, r.away = t.starts[uint32(verdict)], e.bytes[t.flags]&t.leave != 0
	}
}

// pattern is the name of an interface, or the beginning of one where the mask ends
// before its end.
func (t *xtables) pattern(e []byte, at int) names {
	name, mask := e[at:at+ifnameSize], e[at+2*ifnameSize:at+3*ifnameSize]
	n := 0
	for n < ifnameSize && mask[n] != 0 {
		n++
	}
	text := cString(name[:n])
	return names{text, len(text) == n && n < ifnameSize}
}
