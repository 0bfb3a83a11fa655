package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// get sends the same request on all connections, each when the one before was answered.
func get(asked *Asked) (Result, error) {
	if asked.http2 {
		return getHTTP2(asked)
	}
	tally, end := &Tally{}, asked.end()
	seconds := together(asked.connections, func(int) {
		wire := asked.wire()
		defer wire.close()
		fields := ""
		if asked.header != "" {
			fields = asked.header + "\r\n"
		}
		request := wire.head(asked.method, asked.path, fields)
		for time.Now().Before(end) {
			began := time.Now()
			answer, err := wire.exchange(request, asked.method == "HEAD", false)
			if err == nil && answer.status != 200 && answer.status != 206 {
				err = fmt.Errorf("status %d", answer.status)
			}
			tally.did(began, answer.length, err)
			if err != nil {
				return
			}
		}
	})
	return tally.result(seconds), nil
}

// getHTTP2 does the same by the streams of one HTTP/2 connection.
func getHTTP2(asked *Asked) (Result, error) {
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	url := "https://" + asked.address + asked.path
	if proto, _, err := fetch(client, url, asked.header); err != nil || proto != "HTTP/2.0" {
		return Result{First: "no HTTP/2: " + proto}, err
	}
	tally, end := &Tally{}, asked.end()
	seconds := together(asked.connections, func(int) {
		for time.Now().Before(end) {
			began := time.Now()
			_, bytes, err := fetch(client, url, asked.header)
			tally.did(began, bytes, err)
			if err != nil {
				return
			}
		}
	})
	return tally.result(seconds), nil
}

func fetch(client *http.Client, url, header string) (string, int64, error) {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return "", 0, err
	}
	if name, value, found := strings.Cut(header, ": "); found {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	bytes, err := io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != 200 {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	return response.Proto, bytes, err
}
