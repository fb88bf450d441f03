package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// reapTurn is how often ended children are collected.
const reapTurn = 5 * time.Millisecond

// EndChildren kills every child of the caller, with its group, and collects
// what is left of it. It is for a program's own end: nobody else can wait for
// these children any more.
func EndChildren(ctx context.Context) error {
	turn := time.NewTicker(reapTurn)
	defer turn.Stop()
	for {
		var left []int
		for _, pid := range others() {
			if parent(pid) == os.Getpid() {
				left = append(left, pid)
				_ = unix.Kill(-pid, unix.SIGKILL) // no group of its own: only the child
				_ = unix.Kill(pid, unix.SIGKILL)  // gone already is as well
			}
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if errors.Is(err, unix.ECHILD) {
				return nil
			}
			if pid <= 0 {
				break
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end children: processes %v have not ended, although they were killed: %w", left, ctx.Err())
		case <-turn.C:
		}
	}
}

// parent is the process that started pid; 0 when pid is gone.
func parent(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}
