// A neighbour that keeps its token with silenceper/wechat v2 and that library's Redis cache.
package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-redis/redis/v8"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/officialaccount"
	"github.com/silenceper/wechat/v2/officialaccount/config"
	"github.com/silenceper/wechat/v2/util"
)

func env(name, fallback string) string {
	if value := os.Getenv("NEIGHBOUR_" + name); value != "" {
		return value
	}
	if fallback == "!" {
		panic("NEIGHBOUR_" + name + " is missing")
	}
	return fallback
}

func number(name, fallback string) float64 {
	value, err := strconv.ParseFloat(env(name, fallback), 64)
	if err != nil {
		panic("NEIGHBOUR_" + name + " is no number")
	}
	return value
}

// scaledCache is the library's Redis cache with its times to live scaled down. The library takes off fixed seconds
// (1500, or 300 of a stable token) from expires_in, and scaledLife in wire.go scales that up beforehand.
type scaledCache struct {
	*cache.Redis
	conn  redis.UniversalClient
	scale float64
}

func (c scaledCache) Set(key string, value interface{}, timeout time.Duration) error {
	if c.scale == 1 {
		return c.Redis.Set(key, value, timeout)
	}
	// In milliseconds, where the library's own SETEX counts seconds. Both refuse a time that is not above zero.
	milliseconds := int64(float64(timeout.Milliseconds()) * c.scale)
	return c.conn.Do(context.Background(), "PSETEX", key, milliseconds, value).Err()
}

func main() {
	database := int(number("REDIS_DB", "0"))
	scale := number("LIFE_SCALE", "1")
	mode := env("MODE", "own")
	wechat, mesh := env("WECHAT", "!"), env("MESH", "")
	// A reader has no valid secret, so every token that it uses was written by somebody else.
	secret := "no-secret"
	if mode != "reader" {
		secret = env("SECRET", "!")
	}
	tokens := scaledCache{
		cache.NewRedis(context.Background(), &cache.RedisOpts{Host: env("REDIS", "127.0.0.1:6379"), Database: database}),
		redis.NewClient(&redis.Options{Addr: env("REDIS", "127.0.0.1:6379"), DB: database}),
		scale,
	}
	account := officialaccount.NewOfficialAccount(&config.Config{
		AppID:       env("APPID", "!"),
		AppSecret:   secret,
		Cache:       tokens,
		UseStableAK: env("STABLE", "0") == "1",
	})
	events := newEvents("silenceper", mode)
	// Both are the library's own: its URLs are constants, and its client can be replaced.
	util.SetURIModifier(func(uri string) string {
		return strings.Replace(uri, "https://api.weixin.qq.com", wechat, 1)
	})
	util.DefaultHTTPClient = newClient(events, scale)

	events.emit("ready", fields{"kind": events.kind, "mode": mode})
	end := time.Now().Add(time.Duration(number("RUN_MS", "10000")) * time.Millisecond)
	pause := time.Duration(number("PAUSE_MS", "200")) * time.Millisecond
	for first := true; first || time.Now().Before(end); first = false {
		failures := events.counters["token_failures"]
		_, err := account.GetBasic().GetCallbackIP()
		if events.counters["token_failures"] > failures {
			// The token call's own errcode is in its event.
			events.call("beside", nil, "no token")
		} else {
			errcode, problem := outcome(err)
			events.call("beside", errcode, problem)
		}
		if mesh != "" {
			events.throughTheMesh(mesh)
		}
		time.Sleep(pause)
	}
	events.summary()
}

// outcome says how the library's call ended; never with the error's text, which may hold a URL with a token.
func outcome(err error) (*int, string) {
	zero := 0
	if err == nil {
		return &zero, ""
	}
	var refused *util.CommonError
	if errors.As(err, &refused) {
		code := int(refused.ErrCode)
		return &code, ""
	}
	return nil, "error"
}
