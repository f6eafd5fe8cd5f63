package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
)

type fields map[string]any

// events writes one JSON line per event and counts for the last one. Never a token, a secret or an error's text.
type events struct {
	kind, mode string
	counters   map[string]int
	meshCalls  int
}

func newEvents(kind, mode string) *events {
	counters := map[string]int{}
	for _, name := range []string{"calls", "ok", "failed", "beside", "mesh", "rejected", "token_calls", "token_failures"} {
		counters[name] = 0
	}
	return &events{kind: kind, mode: mode, counters: counters}
}

func (e *events) emit(event string, line fields) {
	line["event"] = event
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

// call says how a business call ended for its caller; errcode is nil where there was none.
func (e *events) call(via string, errcode *int, problem string) {
	ok := errcode != nil && *errcode == 0
	e.counters["calls"]++
	e.counters[via]++
	if ok {
		e.counters["ok"]++
	} else {
		e.counters["failed"]++
	}
	line := fields{"via": via, "ok": ok, "errcode": errcode}
	if problem != "" {
		line["error"] = problem
	}
	e.emit("call", line)
}

func (e *events) rejected(via string, errcode int) {
	if errcode == 40001 || errcode == 40014 || errcode == 42001 {
		e.counters["rejected"]++
		e.emit("rejected", fields{"via": via, "errcode": errcode})
	}
}

func (e *events) summary() {
	line := fields{"kind": e.kind, "mode": e.mode}
	for name, value := range e.counters {
		line[name] = value
	}
	e.emit("summary", line)
}

// throughTheMesh makes a plain call without a token: GET and POST in turn.
func (e *events) throughTheMesh(mesh string) {
	request, err := http.NewRequest("GET", mesh+"/cgi-bin/getcallbackip", nil)
	if e.meshCalls%2 == 1 {
		request, err = http.NewRequest("POST", mesh+"/cgi-bin/message/template/send", strings.NewReader(`{"touser":"o1"}`))
	}
	if err != nil {
		panic("NEIGHBOUR_MESH is no URL")
	}
	e.meshCalls++
	request.Header.Set("Content-Type", "application/json")
	request.Host = "api.weixin.qq.com"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		e.call("mesh", nil, "connection")
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		e.call("mesh", nil, "status "+strconv.Itoa(response.StatusCode))
		return
	}
	code := errcode(body)
	e.rejected("mesh", code)
	e.call("mesh", &code, "")
}

// wire is the transport of the library's HTTP client: it sees every answer, and scales expires_in up, so that what
// the library takes off stays in proportion.
type wire struct {
	events *events
	scale  float64
}

func newClient(events *events, scale float64) *http.Client {
	return &http.Client{Transport: wire{events, scale}}
}

func (w wire) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	code := errcode(body)
	switch request.URL.Path {
	case "/cgi-bin/token", "/cgi-bin/stable_token":
		ok := response.StatusCode == 200 && code == 0
		w.events.counters["token_calls"]++
		if !ok {
			w.events.counters["token_failures"]++
		}
		w.events.emit("token_call", fields{"ok": ok, "errcode": code})
		body = scaledLife(body, w.scale)
	default:
		w.events.rejected("beside", code)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	return response, nil
}

func scaledLife(body []byte, scale float64) []byte {
	var answer map[string]any
	if scale == 1 || json.Unmarshal(body, &answer) != nil {
		return body
	}
	if seconds, ok := answer["expires_in"].(float64); ok {
		answer["expires_in"] = int64(math.Round(seconds / scale))
	}
	scaled, _ := json.Marshal(answer)
	return scaled
}

// errcode is 0 where the answer has none; it may be a text, or sit in base_resp.
func errcode(body []byte) int {
	var answer struct {
		Errcode any `json:"errcode"`
		Base    struct {
			Errcode any `json:"errcode"`
		} `json:"base_resp"`
	}
	_ = json.Unmarshal(body, &answer)
	for _, value := range []any{answer.Errcode, answer.Base.Errcode} {
		switch value := value.(type) {
		case float64:
			return int(value)
		case string:
			code, _ := strconv.Atoi(value)
			return code
		}
	}
	return 0
}
