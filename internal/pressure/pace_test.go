package pressure

import (
	"math/rand/v2"
	"testing"
	"time"
)

// However connections are spread and however fast they come, the table is listed
// when a destination has come to its threshold; and not much more often than that.
func TestNoDestinationGrowsUnseen(t *testing.T) {
	const enter, size = 700, 1000
	dice := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		var p pace
		p.forget(enter)
		used := make([]int, 1+dice.IntN(20))
		now, entries, listed := time.Unix(0, 0), 0, 0
		for top := 0; top < size; now = now.Add(p.wait()) {
			for range dice.IntN(30) {
				n := min(dice.IntN(len(used)), dice.IntN(len(used)))
				used[n]++
				entries++
				top = max(top, used[n])
			}
			p.count(now, entries)
			if p.due(now) {
				listed++
				p.listed(now, top)
			} else if top >= enter {
				t.Fatalf("round %d: %d ports are in use, and that is not seen: %+v", round, top, p)
			}
			if top >= enter {
				break
			}
		}
		if listed > 5+entries/50 {
			t.Errorf("round %d: listed %d times while %d entries came", round, listed, entries)
		}
	}
}

// A quiet table is counted four times a second and never listed; one that fills
// is counted the more often the sooner it may be full.
func TestPaceFollowsGrowth(t *testing.T) {
	var p pace
	p.forget(20000)
	now := time.Unix(0, 0)
	for range 1000 {
		p.count(now, 10000)
		if p.due(now) || p.wait() != idle {
			t.Fatalf("a quiet table is due %v, and counted again in %s", p.due(now), p.wait())
		}
		now = now.Add(idle)
	}
	last := idle
	for entries := 10500; entries < 20000; entries += 500 {
		p.count(now, entries)
		if w := p.wait(); w > last || w < quickly {
			t.Errorf("at %d entries %s, after %s", entries, w, last)
		}
		last = p.wait()
		now = now.Add(last)
	}
	p.count(now, 20000)
	if !p.due(now) {
		t.Error("a table with as many entries as make a destination scarce is not due")
	}
}

// What may have died is not counted as alive.
func TestOnlyYoungEntriesAreSurelyAlive(t *testing.T) {
	var p pace
	now := time.Unix(0, 0)
	p.count(now, 5000)
	p.forget(700)
	for entries := 5000; entries <= 9000; entries += 1000 {
		p.count(now, entries)
		now = now.Add(time.Second)
	}
	if p.alive() != 4000 {
		t.Errorf("%d entries are surely alive, want those 4000 that came", p.alive())
	}
	for range 20 {
		p.count(now, 9000)
		now = now.Add(time.Second)
	}
	if p.alive() != 0 {
		t.Errorf("%d old entries are surely alive", p.alive())
	}
}

// Whatever is spent whenever it can be, the average is the share.
func TestCreditBoundsWhatIsSpent(t *testing.T) {
	now := time.Unix(0, 0)
	c := newCredit(0.01, now)
	spent, cost := 0.0, 37*time.Millisecond
	for end := now.Add(time.Hour); now.Before(end); {
		if wait := c.until(cost); wait > 0 {
			now = now.Add(wait + time.Millisecond)
			c.grow(now)
			continue
		}
		spent += c.spend(cost)
	}
	if spent < 35 || spent > 37 {
		t.Errorf("%.1f s were spent in an hour, want 1 %% of it and what a minute holds", spent)
	}
	if c.spend(10 * time.Second); c.until(time.Millisecond) < 900*time.Second {
		t.Errorf("a debt of ten seconds is paid in %s", c.until(time.Millisecond))
	}
}
