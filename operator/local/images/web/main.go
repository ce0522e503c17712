// Command web is the local world's demonstration workload: an HTTP server that tells where it runs and lets a test
// look at the pod from the inside.
//
//	/              host name, the POD_* variables and the addresses it has
//	/env/NAME      an environment variable
//	/file?path=P   a file's content
//	/fetch?url=U   what another server answers, its status included; &ca=P names a file with the authority of its
//	               certificate, &token=P one with a bearer token
//	/healthz       200 or 503; /healthz/off and /healthz/on switch it
//	/exit?code=N   ends the process with that code
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const fetchTimeout = 5 * time.Second

func main() {
	port := flag.Int("port", 8080, "port to listen on; 0 takes any free one")
	readyAfter := flag.Duration("ready-after", 0, "how long /healthz answers 503 after the start")
	lines := flag.Int("lines", 0, "number of lines to print at the start")
	stopAfter := flag.Duration("stop-after", 0, "how long to go on serving after SIGTERM")
	flag.Parse()
	log.SetFlags(log.LUTC | log.Ldate | log.Ltime | log.Lmicroseconds)
	log.SetOutput(os.Stdout)

	for i := 1; i <= *lines; i++ {
		fmt.Printf("line %d of %d\n", i, *lines)
	}
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(*port))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           logged(routes(*readyAfter)),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stopped := make(chan struct{})
	go stopOnSignal(server, *stopAfter, stopped)
	log.Printf("serving on %s", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-stopped
	log.Print("stopped")
}

func stopOnSignal(server *http.Server, delay time.Duration, stopped chan<- struct{}) {
	defer close(stopped)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	log.Printf("%v: stopping in %v", <-signals, delay)
	time.Sleep(delay)
	// Open requests are given less than the shortest grace period that makes sense.
	deadline, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(deadline); err != nil {
		log.Printf("requests cut off: %v", err)
	}
}

func routes(readyAfter time.Duration) http.Handler {
	var health atomic.Bool
	health.Store(true)
	ready := time.Now().Add(readyAfter)
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", whereabouts)
	mux.HandleFunc("/env/{name}", environment)
	mux.HandleFunc("/file", file)
	mux.HandleFunc("/fetch", fetch)
	mux.HandleFunc("/exit", exit)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case !health.Load():
			http.Error(w, "switched off", http.StatusServiceUnavailable)
		case time.Now().Before(ready):
			http.Error(w, "not ready yet", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	mux.HandleFunc("/healthz/{state}", func(w http.ResponseWriter, r *http.Request) {
		state := r.PathValue("state")
		if state != "on" && state != "off" {
			http.Error(w, "expected /healthz/on or /healthz/off", http.StatusNotFound)
			return
		}
		health.Store(state == "on")
		fmt.Fprintln(w, state)
	})
	return mux
}

func whereabouts(w http.ResponseWriter, _ *http.Request) {
	host, err := os.Hostname()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "hostname: %s\n", host)
	for _, name := range []string{"POD_NAME", "POD_NAMESPACE", "POD_IP"} {
		if value, ok := os.LookupEnv(name); ok {
			fmt.Fprintf(w, "%s: %s\n", strings.ToLower(strings.TrimPrefix(name, "POD_")), value)
		}
	}
	fmt.Fprintf(w, "addresses: %s\n", strings.Join(addresses(), " "))
}

func addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, address := range all {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
			found = append(found, network.IP.String())
		}
	}
	sort.Strings(found)
	return found
}

func environment(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	value, ok := os.LookupEnv(name)
	if !ok {
		http.Error(w, name+" is not set", http.StatusNotFound)
		return
	}
	fmt.Fprintln(w, value)
}

func file(w http.ResponseWriter, r *http.Request) {
	content, err := os.ReadFile(r.URL.Query().Get("path"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Write(content)
}

func fetch(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), fetchTimeout)
	defer cancel()
	request, client, err := prepared(ctx, r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// A connection of its own each time: a Service is balanced per connection.
	request.Close = true
	response, err := client.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	io.Copy(w, response.Body)
}

func prepared(ctx context.Context, query url.Values) (*http.Request, *http.Client, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, query.Get("url"), nil)
	if err != nil {
		return nil, nil, err
	}
	client := http.DefaultClient
	if path := query.Get("ca"); path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		authorities := x509.NewCertPool()
		if !authorities.AppendCertsFromPEM(content) {
			return nil, nil, fmt.Errorf("%s: no certificate in it", path)
		}
		client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}}}
	}
	if path := query.Get("token"); path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(content)))
	}
	return request, client, nil
}

func exit(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.URL.Query().Get("code"))
	if err != nil || code < 0 || code > 255 {
		http.Error(w, "expected /exit?code=0…255", http.StatusBadRequest)
		return
	}
	answer := fmt.Sprintf("exiting with %d\n", code)
	// With its length said, the answer is whole for the client although nothing ends it any more.
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	io.WriteString(w, answer)
	w.(http.Flusher).Flush()
	log.Printf("exiting with %d", code)
	os.Exit(code)
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Flush() { r.ResponseWriter.(http.Flusher).Flush() }

func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		log.Printf("%s %s %s %d", r.RemoteAddr, r.Method, r.URL, answer.status)
	})
}
