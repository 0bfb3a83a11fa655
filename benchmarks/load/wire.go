package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is how long a request may take before it counts as failed.
const patience = 120 * time.Second

// buffered is how much a connection reads at once.
const buffered = 64 << 10

// chunk is what a streamed body is sent in: what Go's own client, and so docker, sends.
const chunk = 32 << 10

// Wire is one connection, used by one request after another.
type Wire struct {
	asked  *Asked
	conn   net.Conn
	reader *bufio.Reader
}

// Answer is the head of an answer; its body has been read, and dropped unless it was asked for.
type Answer struct {
	status   int
	length   int64
	location string
	chunked  bool
	closes   bool
	body     []byte
}

func (asked *Asked) wire() *Wire { return &Wire{asked: asked} }

func (wire *Wire) connect() error {
	if wire.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout("tcp", wire.asked.address, patience)
	if err != nil {
		return err
	}
	if wire.asked.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	wire.conn, wire.reader = conn, bufio.NewReaderSize(conn, buffered)
	return nil
}

func (wire *Wire) close() {
	if wire.conn != nil {
		_ = wire.conn.Close()
		wire.conn = nil
	}
}

func (wire *Wire) head(method, path, fields string) []byte {
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: " + wire.asked.address + "\r\n" + fields + "\r\n")
}

// ask sends a request without a body, or with a short one.
func (wire *Wire) ask(method, path, fields string, body []byte, keep bool) (Answer, error) {
	if method == "PUT" || method == "POST" {
		fields += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	return wire.exchange(append(wire.head(method, path, fields), body...), method == "HEAD", keep)
}

// exchange sends the bytes of a request, and reads its answer.
func (wire *Wire) exchange(request []byte, bodiless, keep bool) (Answer, error) {
	if err := wire.connect(); err != nil {
		return Answer{}, err
	}
	_ = wire.conn.SetDeadline(time.Now().Add(patience))
	if _, err := wire.conn.Write(request); err != nil {
		wire.close()
		return Answer{}, err
	}
	return wire.receive(bodiless, keep)
}

// stream sends a body in chunks.
func (wire *Wire) stream(path string, layer *Layer) (Answer, error) {
	if err := wire.connect(); err != nil {
		return Answer{}, err
	}
	_ = wire.conn.SetDeadline(time.Now().Add(patience))
	fields := "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n"
	if _, err := wire.conn.Write(wire.head("PATCH", path, fields)); err != nil {
		wire.close()
		return Answer{}, err
	}
	err := layer.pieces(func(piece []byte) error {
		parts := net.Buffers{[]byte(strconv.FormatInt(int64(len(piece)), 16) + "\r\n"), piece, []byte("\r\n")}
		_, err := parts.WriteTo(wire.conn)
		return err
	})
	if err == nil {
		_, err = wire.conn.Write([]byte("0\r\n\r\n"))
	}
	if err != nil {
		wire.close()
		return Answer{}, err
	}
	return wire.receive(false, false)
}

func (wire *Wire) receive(bodiless, keep bool) (Answer, error) {
	answer, err := wire.receiveHead()
	if err == nil && !bodiless && answer.status != 204 && answer.status != 304 {
		err = wire.receiveBody(&answer, keep)
	}
	if err != nil || answer.closes {
		wire.close()
	}
	return answer, err
}

func (wire *Wire) receiveHead() (Answer, error) {
	answer := Answer{}
	line, err := wire.reader.ReadSlice('\n')
	if err != nil {
		return answer, err
	}
	if len(line) < 12 {
		return answer, fmt.Errorf("no status: %q", line)
	}
	answer.status, _ = strconv.Atoi(string(line[9:12]))
	for {
		line, err = wire.reader.ReadSlice('\n')
		if err != nil {
			return answer, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return answer, nil
		}
		answer.note(line)
	}
}

func (answer *Answer) note(line []byte) {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return
	}
	switch name := line[:colon]; {
	case bytes.EqualFold(name, []byte("content-length")):
		answer.length, _ = strconv.ParseInt(string(bytes.TrimSpace(line[colon+1:])), 10, 64)
	case bytes.EqualFold(name, []byte("location")):
		answer.location = pathOf(string(bytes.TrimSpace(line[colon+1:])))
	case bytes.EqualFold(name, []byte("transfer-encoding")):
		answer.chunked = true
	case bytes.EqualFold(name, []byte("connection")):
		answer.closes = bytes.Contains(bytes.ToLower(line), []byte("close"))
	}
}

// pathOf drops scheme and host, which some registries send.
func pathOf(location string) string {
	if at := strings.Index(location, "://"); at >= 0 {
		rest := location[at+3:]
		return rest[strings.IndexByte(rest, '/'):]
	}
	return location
}

func (wire *Wire) receiveBody(answer *Answer, keep bool) error {
	if answer.chunked {
		return wire.receiveChunks(answer, keep)
	}
	return wire.take(answer, answer.length, keep)
}

func (wire *Wire) receiveChunks(answer *Answer, keep bool) error {
	for {
		line, err := wire.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
		if err != nil {
			return err
		}
		if err := wire.take(answer, size, keep); err != nil {
			return err
		}
		answer.length += size
		if _, err := wire.reader.Discard(2); err != nil || size == 0 {
			return err
		}
	}
}

func (wire *Wire) take(answer *Answer, size int64, keep bool) error {
	if !keep {
		_, err := wire.reader.Discard(int(size))
		return err
	}
	piece := make([]byte, size)
	_, err := io.ReadFull(wire.reader, piece)
	answer.body = append(answer.body, piece...)
	return err
}

// expect turns another status into an error.
func (answer Answer) expect(status int, what string, err error) error {
	if err == nil && answer.status != status {
		err = fmt.Errorf("%s: %d instead of %d", what, answer.status, status)
	}
	return err
}
