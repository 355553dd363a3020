// Places a call by an RQ job, from a program that has a Redis client and nothing of Ringback.
//
//	go get github.com/gomodule/redigo
//	go run examples/enqueue.go 210 5302040 3235742879
//
// The hash is what RQ 3.0 writes for a job: docs/guide/enqueue.md has its fields.
package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/gomodule/redigo/redis"
)

const queue = "ringback-requests"

type answer struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// enqueue adds a job that runs the function of that name, and returns the job's id.
func enqueue(conn redis.Conn, name string, words map[string]any) (string, error) {
	// The function, the object that it is a method of (none), and its arguments.
	data, err := json.Marshal([]any{name, nil, []any{}, words})
	if err != nil {
		return "", err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	id := fmt.Sprintf("%x", random)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	conn.Send("MULTI")
	conn.Send("SADD", "rq:queues", "rq:queue:"+queue)
	conn.Send("HSET", "rq:job:"+id, "created_at", now, "enqueued_at", now, "origin", queue,
		"status", "queued", "description", name, "data", data,
		// Seconds for which RQ keeps the answer.
		"result_ttl", 500)
	conn.Send("RPUSH", "rq:queue:"+queue, id)
	_, err = conn.Do("EXEC")
	return id, err
}

// wait returns the answer to a job.
func wait(conn redis.Conn, id string, limit time.Duration) (*answer, error) {
	read, err := redis.Values(redis.DoWithTimeout(conn, limit+time.Second,
		"XREAD", "BLOCK", limit.Milliseconds(), "STREAMS", "rq:results:"+id, "0-0"))
	if err != nil {
		return nil, fmt.Errorf("job %s has no answer after %s: %w", id, limit, err)
	}
	// One stream, its entries, the first of them, its fields.
	stream, _ := redis.Values(read[0], nil)
	entries, _ := redis.Values(stream[1], nil)
	entry, _ := redis.Values(entries[0], nil)
	fields, err := redis.StringMap(entry[1], nil)
	if err != nil {
		return nil, err
	}
	// 1 is RQ's word for a job that finished. Others failed: `ringback queue failed` says why.
	if fields["type"] != "1" {
		return nil, fmt.Errorf("job %s failed", id)
	}
	text, err := base64.StdEncoding.DecodeString(fields["return_value"])
	if err != nil {
		return nil, err
	}
	found := new(answer)
	return found, json.Unmarshal(text, found)
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: enqueue EXTENSION SOURCE DESTINATION")
	}
	token := os.Getenv("RINGBACK_TOKEN")
	if token == "" {
		token = "demo-user-token"
	}
	conn, err := redis.DialURL(os.Getenv("RINGBACK_REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	view := map[string]any{"source": os.Args[2], "destination": os.Args[3]}
	id, err := enqueue(conn, "ringback.place", map[string]any{
		"app": "demo-user", "token": token, "kind": "simple",
		"body": map[string]any{"extension": os.Args[1], "phoneCallView": []any{view}},
	})
	if err != nil {
		log.Fatal(err)
	}
	found, err := wait(conn, id, 30*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Status, string(found.Body))
	if found.Status >= 300 {
		os.Exit(1)
	}
}
