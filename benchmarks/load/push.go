package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

// parallel is how many layers docker pushes at once.
const parallel = 5

var (
	block  = randomly(1 << 20)
	nonce  = randomly(8)
	serial atomic.Uint64
)

func randomly(size int) []byte {
	bytes := make([]byte, size)
	_, _ = rand.Read(bytes)
	return bytes
}

// Layer is bytes that no other layer has: a header of its own, then the same block again and again.
type Layer struct {
	size   int
	header []byte
	digest string
}

func newLayer(size int) *Layer {
	layer := &Layer{size: size, header: append([]byte{}, nonce...)}
	layer.header = binary.BigEndian.AppendUint64(layer.header, serial.Add(1))
	hash := sha256.New()
	_ = layer.pieces(func(piece []byte) error {
		hash.Write(piece)
		return nil
	})
	layer.digest = "sha256:" + hex.EncodeToString(hash.Sum(nil))
	return layer
}

// pieces gives the layer's bytes away in pieces of at most a chunk.
func (layer *Layer) pieces(give func([]byte) error) error {
	if err := give(layer.header); err != nil {
		return err
	}
	for sent := len(layer.header); sent < layer.size; {
		from := sent % (len(block) - chunk)
		piece := block[from : from+min(chunk, layer.size-sent)]
		if err := give(piece); err != nil {
			return err
		}
		sent += len(piece)
	}
	return nil
}

func min(one, other int) int {
	if one < other {
		return one
	}
	return other
}

// Image is what one push brings; its last layer is the configuration.
type Image struct {
	layers   []*Layer
	manifest []byte
}

func newImage(layers, size int) *Image {
	image := &Image{}
	described := make([]string, 0, layers)
	for number := 0; number < layers; number++ {
		layer := newLayer(size)
		image.layers = append(image.layers, layer)
		described = append(described, describe(layer, "image.rootfs.diff.tar.gzip"))
	}
	config := newLayer(512)
	image.layers = append(image.layers, config)
	image.manifest = []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s]}`,
		manifestType, describe(config, "container.image.v1+json"), strings.Join(described, ",")))
	return image
}

func describe(layer *Layer, kind string) string {
	return fmt.Sprintf(`{"mediaType":"application/vnd.docker.%s","size":%d,"digest":"%s"}`, kind, layer.size, layer.digest)
}

// Pusher has the connections of one client.
type Pusher struct {
	asked *Asked
	base  string
	wires []*Wire
}

func (asked *Asked) pusher(repository string) *Pusher {
	pusher := &Pusher{asked: asked, base: "/v2/" + repository}
	for number := 0; number < parallel; number++ {
		pusher.wires = append(pusher.wires, asked.wire())
	}
	return pusher
}

func (pusher *Pusher) close() {
	for _, wire := range pusher.wires {
		wire.close()
	}
}

// image pushes the layers, several at once, and then the manifest.
func (pusher *Pusher) image(image *Image, tag string) error {
	failures := make(chan error, parallel)
	var next atomic.Int64
	wires := min(parallel, len(image.layers))
	together(wires, func(number int) {
		for {
			place := int(next.Add(1)) - 1
			if place >= len(image.layers) {
				failures <- nil
				return
			}
			if err := pusher.layer(pusher.wires[number], image.layers[place]); err != nil {
				failures <- err
				return
			}
		}
	})
	for number := 0; number < wires; number++ {
		if err := <-failures; err != nil {
			return err
		}
	}
	return pusher.tag(image, tag)
}

// layer pushes one layer the way docker does.
func (pusher *Pusher) layer(wire *Wire, layer *Layer) error {
	answer, err := wire.ask("HEAD", pusher.base+"/blobs/"+layer.digest, "", nil, false)
	if err := answer.expect(404, "HEAD of a new layer", err); err != nil {
		return err
	}
	answer, err = wire.ask("POST", pusher.base+"/blobs/uploads/", "", nil, false)
	if err := answer.expect(202, "POST of an upload", err); err != nil {
		return err
	}
	answer, err = wire.stream(answer.location, layer)
	if err := answer.expect(202, "PATCH of an upload", err); err != nil {
		return err
	}
	separator := "?"
	if strings.Contains(answer.location, "?") {
		separator = "&"
	}
	answer, err = wire.ask("PUT", answer.location+separator+"digest="+layer.digest, "", nil, false)
	return answer.expect(201, "PUT of an upload", err)
}

func (pusher *Pusher) tag(image *Image, tag string) error {
	path := pusher.base + "/manifests/" + tag
	answer, err := pusher.wires[0].ask("PUT", path, "Content-Type: "+manifestType+"\r\n", image.manifest, false)
	return answer.expect(201, "PUT of a manifest", err)
}

// push pushes images one after the other.
func push(asked *Asked) (Result, error) {
	images := make([]*Image, asked.images)
	for number := range images {
		images[number] = newImage(asked.layers, asked.size)
	}
	tally, pusher := &Tally{}, asked.pusher(asked.repository)
	defer pusher.close()
	began := time.Now()
	for number, image := range images {
		start := time.Now()
		err := pusher.image(image, fmt.Sprintf("t%d", number))
		tally.did(start, int64(asked.layers*asked.size), err)
	}
	return tally.result(time.Since(began).Seconds()), nil
}

// existing pushes an image once, and then again under one tag after another.
func existing(asked *Asked) (Result, error) {
	image := newImage(asked.layers, asked.size)
	first := asked.pusher(asked.repository)
	if err := first.image(image, "first"); err != nil {
		return Result{}, err
	}
	first.close()
	tally, end := &Tally{}, asked.end()
	seconds := together(asked.connections, func(client int) {
		pusher := asked.pusher(asked.repository)
		defer pusher.close()
		for number := 0; time.Now().Before(end); number++ {
			start := time.Now()
			err := pusher.again(image, fmt.Sprintf("t%d-%d", client, number))
			tally.did(start, 0, err)
			if err != nil {
				return
			}
		}
	})
	return tally.result(seconds), nil
}

// again finds all layers there, and names the image.
func (pusher *Pusher) again(image *Image, tag string) error {
	for _, layer := range image.layers {
		answer, err := pusher.wires[0].ask("HEAD", pusher.base+"/blobs/"+layer.digest, "", nil, false)
		if err := answer.expect(200, "HEAD of a layer", err); err != nil {
			return err
		}
	}
	return pusher.tag(image, tag)
}
