// Command traffic runs in pods of the tests: many connections that stay, one
// stream whose every byte is checked, and numbered datagrams, so that a lost
// packet, a reset and a stall can be told apart.
//
//	traffic server 9000
//	traffic client ADDRESS:9000 1000
//
// The client goes on until it gets SIGTERM or SIGINT, or the number of seconds
// in a third argument has passed, and then prints a Report as JSON on stdout. It
// prints "flowing" on stderr when everything is under way.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

const usage = "usage: traffic server PORT | traffic client ADDRESS:PORT CONNECTIONS [SECONDS]"

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "server":
		return serve(ctx, ":"+args[1])
	case len(args) >= 3 && args[0] == "client":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return fmt.Errorf("connections: %w", err)
		}
		if len(args) == 4 {
			seconds, err := strconv.Atoi(args[3])
			if err != nil {
				return fmt.Errorf("seconds: %w", err)
			}
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
			defer stop()
		}
		report, err := drive(ctx, args[1], n)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(report)
	}
	return fmt.Errorf("%s", usage)
}
