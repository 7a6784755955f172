// A server with the middleware for net/http.
package main

import (
	"app/ratelimit"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	address, url := os.Args[1]+":"+os.Args[2], os.Args[3]
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	})
	limited := func(timeout time.Duration, failOpen bool) http.Handler {
		return ratelimit.Middleware(ratelimit.Options{
			URL:    url,
			Domain: "shop",
			Entries: func(r *http.Request) []ratelimit.Entry {
				return []ratelimit.Entry{{Key: "user", Value: r.Header.Get("X-User")}}
			},
			Timeout:  timeout,
			FailOpen: failOpen,
		})(hello)
	}
	http.Handle("/patient", limited(time.Minute, true))
	http.Handle("/open", limited(300*time.Millisecond, true))
	http.Handle("/closed", limited(300*time.Millisecond, false))
	panic(http.ListenAndServe(address, nil))
}
