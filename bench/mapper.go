package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// A mapper makes mappings in the kernel that it is run in. Each of podsMapped pods
// has as many, to its ports from mappedPort on.
type mapper interface {
	// program makes n mappings where there are none.
	program(n int) error
	// add makes one more, and remove takes it away. They return how long the kernel
	// took, with the start of whatever program is needed.
	add() (time.Duration, error)
	remove() (time.Duration, error)
	// finish measures what only this mapper has, and fills in the doors.
	finish(*mappingResult) error
}

const (
	mappingTimes    = 25              // one comes and goes
	mappingPatience = 6 * time.Second // fewer times, where it takes so long
)

// mapChild is the process of one row. It prints its result as JSON, and stays until
// nobody writes to it any more.
func (b *bench) mapChild(row mappingRow) (err error) {
	memory, err := countKernelMemory()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, memory.end()) }()
	var m mapper
	switch row.By {
	case inMap, inMapReserved:
		m = &mapped{b: b, reserves: row.By == inMapReserved}
	default:
		m = &iptables{command: row.By}
	}
	r := mappingResult{mappingRow: row}
	before, err := memory.bytes()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := m.program(row.Mappings); err != nil {
		return err
	}
	r.Program = millisOf(time.Since(began))
	runtime.GC()
	after, err := memory.bytes()
	if err != nil {
		return err
	}
	r.Kernel = after - before
	if err := r.comeAndGo(m); err != nil {
		return err
	}
	if err := m.finish(&r); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// comeAndGo measures one mapping more and one less.
func (r *mappingResult) comeAndGo(m mapper) error {
	var adds, deletes []float64
	for end := time.Now().Add(mappingPatience); len(adds) < mappingTimes && (len(adds) < 3 || time.Now().Before(end)); {
		for _, c := range []struct {
			do   func() (time.Duration, error)
			into *[]float64
		}{{m.add, &adds}, {m.remove, &deletes}} {
			took, err := c.do()
			if err != nil {
				return err
			}
			*c.into = append(*c.into, millisOf(took))
		}
	}
	r.Add, r.Delete = estimateOf(adds), estimateOf(deletes)
	return nil
}

// iptables makes mappings as Antrea does: one rule each in a chain to which all that
// is for the node goes, all at once by iptables-restore and one by one by iptables.
type iptables struct {
	command string
	n       int
}

const (
	mappingChain = "ANTREA-NODE-PORT-LOCAL"
	mappingDoor  = 10_000 // the port of the node that the first rule is for
)

// rule is number i of n, and number n one more.
func (t *iptables) rule(i int) string {
	each := max(t.n/podsMapped, 1)
	return fmt.Sprintf("%s -p tcp -m tcp --dport %d -j DNAT --to-destination %s:%d", mappingChain,
		mappingDoor+i, mappedPod(i/each%podsMapped), mappedPort+i%each)
}

func (t *iptables) program(n int) error {
	t.n = n
	var rules strings.Builder
	fmt.Fprintf(&rules, "*nat\n:%s - [0:0]\n", mappingChain)
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		fmt.Fprintf(&rules, "-A %s -m addrtype --dst-type LOCAL -j %s\n", chain, mappingChain)
	}
	for i := range n {
		fmt.Fprintf(&rules, "-A %s\n", t.rule(i))
	}
	rules.WriteString("COMMIT\n")
	restore := exec.Command(t.command+"-restore", "--wait", "--noflush")
	restore.Stdin = strings.NewReader(rules.String())
	return runQuietly(restore)
}

func (t *iptables) add() (time.Duration, error)    { return t.one("-A") }
func (t *iptables) remove() (time.Duration, error) { return t.one("-D") }

func (t *iptables) one(verb string) (time.Duration, error) {
	arguments := append([]string{"--wait", "-t", "nat", verb}, strings.Fields(t.rule(t.n))...)
	began := time.Now()
	err := runQuietly(exec.Command(t.command, arguments...))
	return time.Since(began), err
}

func (t *iptables) finish(r *mappingResult) error {
	for i := 0; i < t.n; i += max(t.n/podsMapped, 1) {
		r.Doors = append(r.Doors, uint16(mappingDoor+i))
	}
	return nil
}

// runQuietly tells what a program printed only if it failed.
func runQuietly(c *exec.Cmd) error {
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", c, err, said.String())
	}
	return nil
}
