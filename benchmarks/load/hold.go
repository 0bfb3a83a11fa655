package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// trickle is what a slow pull reads, and trickling how often.
const (
	trickle   = 4 << 10
	trickling = 500 * time.Millisecond
)

// hold opens connections, says so, and keeps them until its input ends.
func hold(asked *Asked) (Result, error) {
	kinds := map[string]func(*Wire, func(error)){"idle": idle, "pull": pullSlowly, "push": pushEndlessly}
	kind := kinds[asked.kind]
	if kind == nil {
		return Result{}, fmt.Errorf("nothing is called %q", asked.kind)
	}
	tally := &Tally{}
	var atWork sync.WaitGroup
	began := time.Now()
	for number := 0; number < asked.connections; number++ {
		atWork.Add(1)
		go func() {
			var once sync.Once
			kind(asked.wire(), func(err error) {
				once.Do(func() {
					tally.did(began, 0, err)
					atWork.Done()
				})
			})
		}()
	}
	atWork.Wait()
	tell(tally.result(time.Since(began).Seconds()))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return Result{}, nil
}

// idle asks for something small, once.
func idle(wire *Wire, ready func(error)) {
	answer, err := wire.ask("GET", wire.asked.path, "", nil, false)
	ready(answer.expect(200, "GET", err))
}

// pullSlowly asks for a blob, and reads less than is sent.
func pullSlowly(wire *Wire, ready func(error)) {
	if err := wire.connect(); err != nil {
		ready(err)
		return
	}
	if conn, plain := wire.conn.(*net.TCPConn); plain {
		_ = conn.SetReadBuffer(buffered) // else the kernel takes megabytes of each, and the server is done
	}
	_, _ = wire.conn.Write(wire.head("GET", wire.asked.path, ""))
	piece := make([]byte, trickle)
	for {
		_, err := wire.conn.Read(piece)
		ready(err)
		if err != nil {
			return
		}
		time.Sleep(trickling)
	}
}

// pushEndlessly sends a layer as fast as it is taken.
func pushEndlessly(wire *Wire, ready func(error)) {
	answer, err := wire.ask("POST", "/v2/"+wire.asked.repository+"/blobs/uploads/", "", nil, false)
	if err := answer.expect(202, "POST of an upload", err); err != nil {
		ready(err)
		return
	}
	fields := "Content-Type: application/octet-stream\r\nContent-Length: " + strconv.Itoa(wire.asked.size) + "\r\n"
	if err := wire.connect(); err != nil {
		ready(err)
		return
	}
	_, err = wire.conn.Write(wire.head("PATCH", answer.location, fields))
	layer := &Layer{size: wire.asked.size, header: nonce}
	_ = layer.pieces(func(piece []byte) error {
		_, err := wire.conn.Write(piece)
		ready(err)
		return err
	})
}
