// quamina on the rules and events of a folder: measures and prints what `matcher-bench` does.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"time"

	"quamina.net/go/quamina/v2"
)

const (
	shown  = 200
	passes = 0.5
)

type bench struct {
	matcher *quamina.Quamina
	events  [][]byte
	limit   float64
}

type result struct {
	Build   float64 `json:"build_us_per_rule"`
	Bytes   float64 `json:"bytes_per_rule"`
	Match   float64 `json:"match_us"`
	Insert  float64 `json:"insert_us"`
	Matches [][]int `json:"matches"`
}

func main() {
	log.SetFlags(0)
	folder := os.Args[1]
	rules, err := strconv.Atoi(os.Args[2])
	check(err)
	limit, err := strconv.ParseFloat(os.Args[3], 64)
	check(err)
	matcher, err := quamina.New()
	check(err)
	b := &bench{matcher: matcher, limit: limit}
	for lines := open(filepath.Join(folder, "events.jsonl")); lines.Scan(); {
		b.events = append(b.events, []byte(lines.Text()))
	}
	check(json.NewEncoder(os.Stdout).Encode(b.measure(open(filepath.Join(folder, "rules.jsonl")), rules)))
}

func (b *bench) measure(lines *bufio.Scanner, rules int) result {
	before, start := used(), time.Now()
	for id := 0; id < rules && lines.Scan(); id++ {
		check(b.matcher.AddPattern(id, lines.Text()))
		if id%64 == 0 && since(start) > b.limit {
			check(fmt.Errorf("%d rules took more than %v s", id, b.limit))
		}
	}
	b.match(b.events[0])
	build := since(start)
	bytes := used() - before
	b.passes()
	match := b.passes()
	matches := b.matches()
	return result{
		Build:   build * 1e6 / float64(rules),
		Bytes:   float64(bytes) / float64(rules),
		Match:   match,
		Matches: matches,
		Insert:  b.inserts(lines, rules),
	}
}

func (b *bench) match(event []byte) []quamina.X {
	ids, err := b.matcher.MatchesForEvent(event)
	check(err)
	return ids
}

func (b *bench) passes() float64 {
	var times []float64
	for start := time.Now(); since(start) < passes; {
		pass, matched := time.Now(), 0
		for _, event := range b.events {
			b.match(event)
			if matched++; matched%64 == 0 && since(start) > b.limit {
				break
			}
		}
		times = append(times, since(pass)*1e6/float64(matched))
	}
	return median(times)
}

func median(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}

func (b *bench) matches() [][]int {
	var all [][]int
	for start := time.Now(); len(all) < shown && since(start) < b.limit; {
		ids := []int{}
		for _, id := range b.match(b.events[len(all)]) {
			ids = append(ids, id.(int))
		}
		sort.Ints(ids)
		all = append(all, ids)
	}
	return all
}

func (b *bench) inserts(lines *bufio.Scanner, id int) float64 {
	var times []float64
	for start := time.Now(); since(start) < b.limit/5 && lines.Scan(); {
		insert := time.Now()
		check(b.matcher.AddPattern(id+len(times), lines.Text()))
		b.match(b.events[0])
		times = append(times, since(insert)*1e6)
	}
	return median(times)
}

func open(path string) *bufio.Scanner {
	file, err := os.Open(path)
	check(err)
	return bufio.NewScanner(file)
}

func since(start time.Time) float64 { return time.Since(start).Seconds() }

func used() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
