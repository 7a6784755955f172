// Package ratelimit asks tollgate before each request.
package ratelimit

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// Entry is an entry of a descriptor.
type Entry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Options: Entries makes the descriptor of a request. Without an answer within Timeout, a
// request passes only if FailOpen.
type Options struct {
	URL, Domain string
	Entries     func(*http.Request) []Entry
	Timeout     time.Duration
	FailOpen    bool
}

// Middleware refuses requests over their limit before they reach the handler.
func Middleware(options Options) func(http.Handler) http.Handler {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	client := &http.Client{Timeout: options.Timeout, Transport: transport}
	ask := func(r *http.Request) (int, http.Header) {
		descriptors := []any{map[string]any{"entries": options.Entries(r)}}
		body, _ := json.Marshal(map[string]any{"domain": options.Domain, "descriptors": descriptors})
		reply, err := client.Post(options.URL, "application/json", bytes.NewReader(body))
		if err != nil {
			return http.StatusServiceUnavailable, nil
		}
		defer reply.Body.Close()
		io.Copy(io.Discard, reply.Body) // The connection is used again.
		return reply.StatusCode, reply.Header
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			status, header := ask(r)
			// An answer 4xx means that the question was wrong. It never lets a request pass.
			if status == 200 || (status >= 500 && options.FailOpen) {
				next.ServeHTTP(w, r)
				return
			}
			for _, name := range []string{"Retry-After", "Ratelimit", "Ratelimit-Policy"} {
				w.Header()[name] = header[name]
			}
			if status != http.StatusTooManyRequests {
				status = http.StatusServiceUnavailable
			}
			w.WriteHeader(status)
		})
	}
}
