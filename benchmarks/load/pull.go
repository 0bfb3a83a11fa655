package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"time"
)

const accept = "Accept: " + manifestType + "\r\n"

// Shares of the mixed load, in percent; the rest are pushes.
const (
	pulls  = 80
	checks = 15
)

// Described is a manifest, as far as a puller reads it.
type Described struct {
	Config struct{ Digest string }
	Layers []struct{ Digest string }
}

// pull gets an image by its tag: manifest, configuration, layers.
func pull(wire *Wire, repository, tag string) (int64, error) {
	base := "/v2/" + repository
	answer, err := wire.ask("GET", base+"/manifests/"+tag, accept, nil, true)
	if err := answer.expect(200, "GET of a manifest", err); err != nil {
		return 0, err
	}
	var manifest Described
	if err := json.Unmarshal(answer.body, &manifest); err != nil {
		return 0, err
	}
	digests := []string{manifest.Config.Digest}
	for _, layer := range manifest.Layers {
		digests = append(digests, layer.Digest)
	}
	received := answer.length
	for _, digest := range digests {
		answer, err := wire.ask("GET", base+"/blobs/"+digest, "", nil, false)
		if err := answer.expect(200, "GET of a layer", err); err != nil {
			return received, err
		}
		received += answer.length
	}
	return received, nil
}

// storm lets all clients pull at once, one image each.
func storm(asked *Asked) (Result, error) {
	tally := &Tally{}
	seconds := together(asked.connections, func(number int) {
		wire := asked.wire()
		defer wire.close()
		began := time.Now()
		received, err := pull(wire, asked.repository, fmt.Sprintf("v%d", number%asked.images))
		tally.did(began, received, err)
	})
	return tally.result(seconds), nil
}

// mixed lets all clients pull, check and push for some time.
func mixed(asked *Asked) (Result, error) {
	tally, end := &Tally{}, asked.end()
	seconds := together(asked.connections, func(number int) {
		chance := rand.New(rand.NewSource(int64(number)))
		wire := asked.wire()
		defer wire.close()
		pusher := asked.pusher(fmt.Sprintf("bench/mixed-%d", number))
		defer pusher.close()
		for turn := 0; time.Now().Before(end); turn++ {
			began := time.Now()
			received, err := one(asked, wire, pusher, chance, turn)
			tally.did(began, received, err)
		}
	})
	return tally.result(seconds), nil
}

func one(asked *Asked, wire *Wire, pusher *Pusher, chance *rand.Rand, turn int) (int64, error) {
	share, tag := chance.Intn(100), fmt.Sprintf("v%d", chance.Intn(asked.images))
	switch {
	case share < pulls:
		return pull(wire, asked.repository, tag)
	case share < pulls+checks:
		path := "/v2/" + asked.repository + "/manifests/" + tag
		answer, err := wire.ask("HEAD", path, accept, nil, false)
		return 0, answer.expect(200, "HEAD of a manifest", err)
	default:
		return 0, pusher.image(newImage(asked.layers, asked.size), fmt.Sprintf("t%d", turn))
	}
}
