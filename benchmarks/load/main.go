// Load for a registry, by raw HTTP/1.1 so that the client costs little beside the server.
//
//	load get      the same request again and again
//	load push     images, the way docker does it
//	load existing images whose layers are there
//	load storm    many clients that pull one image, or several
//	load mixed    pulls, checks and pushes at once
//	load hold     connections that stay: idle, slow pulls, or endless pushes
//
// Each prints one line of JSON. "hold" prints it once all its connections are at work, and ends when
// its input does.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"
)

// Asked is what the command line asks for.
type Asked struct {
	address     string
	path        string
	method      string
	header      string
	repository  string
	kind        string
	tls         bool
	http2       bool
	connections int
	images      int
	layers      int
	size        int
	seconds     float64
}

// Result is what is printed.
type Result struct {
	Count   int     `json:"count"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	P999    float64 `json:"p999"`
	Errors  int     `json:"errors"`
	First   string  `json:"first_error"`
}

// Tally is what the clients did, together.
type Tally struct {
	mutex  sync.Mutex
	times  []float64
	bytes  int64
	errors int
	first  string
}

func (tally *Tally) did(began time.Time, bytes int64, err error) {
	took := time.Since(began).Seconds()
	tally.mutex.Lock()
	defer tally.mutex.Unlock()
	if err != nil {
		tally.errors++
		if tally.first == "" {
			tally.first = err.Error()
		}
		return
	}
	tally.times = append(tally.times, took)
	tally.bytes += bytes
}

func (tally *Tally) result(seconds float64) Result {
	sort.Float64s(tally.times)
	result := Result{
		Count: len(tally.times), Bytes: tally.bytes, Seconds: seconds,
		Errors: tally.errors, First: tally.first,
	}
	result.P50, result.P99, result.P999 = tally.at(0.5), tally.at(0.99), tally.at(0.999)
	return result
}

func (tally *Tally) at(share float64) float64 {
	if len(tally.times) == 0 {
		return 0
	}
	place := int(share * float64(len(tally.times)))
	if place >= len(tally.times) {
		place = len(tally.times) - 1
	}
	return tally.times[place]
}

// together runs one function for each client, and returns the seconds until the last has ended.
func together(clients int, client func(number int)) float64 {
	var group sync.WaitGroup
	began := time.Now()
	for number := 0; number < clients; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			client(number)
		}(number)
	}
	group.Wait()
	return time.Since(began).Seconds()
}

func (asked *Asked) end() time.Time {
	return time.Now().Add(time.Duration(asked.seconds * float64(time.Second)))
}

func parse(words []string) *Asked {
	asked := &Asked{}
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.StringVar(&asked.address, "address", "", "host and port")
	flags.StringVar(&asked.path, "path", "/v2/", "what is asked for")
	flags.StringVar(&asked.method, "method", "GET", "how")
	flags.StringVar(&asked.header, "header", "", "one more field of the head")
	flags.StringVar(&asked.repository, "repository", "bench/push", "where to push, or to pull from")
	flags.StringVar(&asked.kind, "kind", "idle", "what is held: idle, pull or push")
	flags.BoolVar(&asked.tls, "tls", false, "by TLS")
	flags.BoolVar(&asked.http2, "http2", false, "by HTTP/2")
	flags.IntVar(&asked.connections, "connections", 1, "at once")
	flags.IntVar(&asked.images, "images", 1, "how many, together")
	flags.IntVar(&asked.layers, "layers", 1, "of each image")
	flags.IntVar(&asked.size, "size", 4096, "bytes of a layer")
	flags.Float64Var(&asked.seconds, "seconds", 1, "how long")
	_ = flags.Parse(words)
	return asked
}

func main() {
	commands := map[string]func(*Asked) (Result, error){
		"get": get, "push": push, "existing": existing, "storm": storm, "mixed": mixed, "hold": hold,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: load get|push|existing|storm|mixed|hold [flags]")
		os.Exit(2)
	}
	result, err := commands[os.Args[1]](parse(os.Args[2:]))
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	if os.Args[1] != "hold" {
		tell(result)
	}
}

func tell(result Result) {
	_ = json.NewEncoder(os.Stdout).Encode(result)
}
