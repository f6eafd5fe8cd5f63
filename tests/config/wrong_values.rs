//! Wrong documents of which the apps are right.

use serde_json::{json, Value};

use super::wrong_documents::{with, MARKER};

pub(crate) fn weixin() -> Vec<(Value, &'static str)> {
    vec![
        (with("/weixin/url", json!("https://api.weixin.qq.com")), "weixin.url: is not known; allowed: upstreams, timeout, hosts"),
        (with("/weixin/upstreams", json!([])), "weixin.upstreams: has 0 items; allowed: 1 to 8"),
        (with("/weixin/upstreams", json!({"cluster": "wechat_token"})), "weixin.upstreams: is an object; allowed: a list"),
        (with("/weixin/upstreams", json!([{}])), "weixin.upstreams[0].cluster: is missing"),
        (with("/weixin/upstreams", json!([{"cluster": ""}])), "weixin.upstreams[0].cluster: \"\" is empty; allowed: 1 to 256 visible ASCII characters without a space"),
        (with("/weixin/upstreams", json!([{"cluster": "wechat token"}])), "weixin.upstreams[0].cluster: \"wechat token\" is not the name of a cluster; allowed: 1 to 256 visible ASCII characters without a space"),
        (with("/weixin/upstreams", json!([{"cluster": "c"}, {"cluster": "d", "authority": ""}])), "weixin.upstreams[1].authority: \"\" is empty; allowed: a host name such as api.weixin.qq.com, with :port if need be"),
        (with("/weixin/upstreams", json!([{"cluster": "c", "authority": "https://api.weixin.qq.com"}])), "weixin.upstreams[0].authority: \"https://api.weixin.qq.com\" has a scheme; allowed: a host name such as api.weixin.qq.com, with :port if need be"),
        (with("/weixin/upstreams", json!([{"cluster": "c", "authority": "*"}])), "weixin.upstreams[0].authority: \"*\" has a '*'; allowed: a host name such as api.weixin.qq.com, with :port if need be"),
        (with("/weixin/upstreams", json!([{"cluster": "c", "host": "a"}])), "weixin.upstreams[0].host: is not known; allowed: cluster, authority"),
        (with("/weixin/upstreams", json!(vec![json!({"cluster": "c"}); 9])), "weixin.upstreams: has 9 items; allowed: 1 to 8"),
        (with("/weixin/hosts", json!([])), "weixin.hosts: has 0 items; allowed: 1 to 32"),
        (with("/weixin/hosts", json!("api.weixin.qq.com")), "weixin.hosts: is a text; allowed: a list"),
        (with("/weixin/hosts", json!([1])), "weixin.hosts[0]: is a number; allowed: a text, a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!([""])), "weixin.hosts[0]: \"\" is empty; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["https://api.weixin.qq.com"])), "weixin.hosts[0]: \"https://api.weixin.qq.com\" has a scheme; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["api.weixin.qq.com/cgi-bin"])), "weixin.hosts[0]: \"api.weixin.qq.com/cgi-bin\" has a path; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["api.weixin.qq.com", "api weixin"])), "weixin.hosts[1]: \"api weixin\" has a space or a character outside ASCII; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["*.weixin.qq.com"])), "weixin.hosts[0]: \"*.weixin.qq.com\" has a '*'; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["api.weixin.qq.com", "*"])), "weixin.hosts[1]: \"*\" is not alone; allowed: \"*\" alone, or host names"),
        (with("/weixin/hosts", json!(["api.weixin.qq.com:0"])), "weixin.hosts[0]: \"api.weixin.qq.com:0\" has no port from 1 to 65535 after its ':'; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["api.weixin.qq.com:65536"])), "weixin.hosts[0]: \"api.weixin.qq.com:65536\" has no port from 1 to 65535 after its ':'; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["api.weixin.qq.com:"])), "weixin.hosts[0]: \"api.weixin.qq.com:\" has no port from 1 to 65535 after its ':'; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["api..weixin.qq.com"])), "weixin.hosts[0]: \"api..weixin.qq.com\" is not a host name; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["user@weixin.qq.com"])), "weixin.hosts[0]: \"user@weixin.qq.com\" is not a host name; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
        (with("/weixin/hosts", json!(["::1"])), "weixin.hosts[0]: \"::1\" is not a host name; allowed: a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone"),
    ]
}

pub(crate) fn bounds() -> Vec<(Value, &'static str)> {
    vec![
        (with("/weixin/timeout", json!("5 minutes")), "weixin.timeout: \"5 minutes\" is not a duration; allowed: a number with a unit ms, s, m or h, for example 300s"),
        (with("/weixin/timeout", json!("99ms")), "weixin.timeout: \"99ms\" is out of bounds; allowed: 100ms to 60s"),
        (with("/weixin/timeout", json!("61s")), "weixin.timeout: \"61s\" is out of bounds; allowed: 100ms to 60s"),
        (with("/weixin/timeout", json!(5)), "weixin.timeout: is a number; allowed: a text, a number with a unit ms, s, m or h, for example 300s"),
        (with("/weixin/timeout", json!("")), "weixin.timeout: \"\" is not a duration; allowed: a number with a unit ms, s, m or h, for example 300s"),
        (with("/weixin/timeout", json!("-5s")), "weixin.timeout: \"-5s\" is not a duration; allowed: a number with a unit ms, s, m or h, for example 300s"),
        (with("/wait/timeout", json!("0s")), "wait.timeout: \"0s\" is out of bounds; allowed: 10ms to 60s"),
        (with("/wait/timeout", json!("2m")), "wait.timeout: \"2m\" is out of bounds; allowed: 10ms to 60s"),
        (with("/wait/max_requests", json!(0)), "wait.max_requests: 0 is out of bounds; allowed: 1 to 1000000"),
        (with("/wait/max_requests", json!(-1)), "wait.max_requests: -1 is out of bounds; allowed: 1 to 1000000"),
        (with("/wait/max_requests", json!(1_000_001)), "wait.max_requests: 1000001 is out of bounds; allowed: 1 to 1000000"),
        (with("/wait/max_requests", json!(1.5)), "wait.max_requests: 1.500 is not a whole number; allowed: 1 to 1000000"),
        (with("/wait/max_requests", json!(1e300)), "wait.max_requests: a number this large is out of bounds; allowed: 1 to 1000000"),
        (with("/wait/max_requests", json!("1024")), "wait.max_requests: is a text; allowed: a whole number, 1 to 1000000"),
        (with("/wait/max_request", json!(5)), "wait.max_request: is not known; allowed: timeout, max_requests"),
        (with("/refresh/lead", json!("5 minutes")), "refresh.lead: \"5 minutes\" is not a duration; allowed: a number with a unit ms, s, m or h, for example 300s"),
        (with("/refresh/lead", json!("61m")), "refresh.lead: \"61m\" is out of bounds; allowed: 0s to 1h"),
        (with("/refresh/lead", json!("99999999999999999999h")), "refresh.lead: \"99999999999999999999h\" is out of bounds; allowed: 0s to 1h"),
        (with("/refresh/lead", json!(300)), "refresh.lead: is a number; allowed: a text, a number with a unit ms, s, m or h, for example 300s"),
        (with("/refresh/lead", json!(null)), "refresh.lead: is null; allowed: a text, a number with a unit ms, s, m or h, for example 300s"),
        (with("/refresh/jitter", json!("2h")), "refresh.jitter: \"2h\" is out of bounds; allowed: 0s to 1h"),
        (with("/refresh/backoff", json!("1s")), "refresh.backoff: is a text; allowed: an object of initial, max"),
        (with("/refresh/backoff/initial", json!("0s")), "refresh.backoff.initial: \"0s\" is out of bounds; allowed: 100ms to 300s"),
        (with("/refresh/backoff/initial", json!("6m")), "refresh.backoff.initial: \"6m\" is out of bounds; allowed: 100ms to 300s"),
        (with("/refresh/backoff/max", json!("61m")), "refresh.backoff.max: \"61m\" is out of bounds; allowed: 100ms to 1h"),
        (with("/refresh/backoff/factor", json!(2)), "refresh.backoff.factor: is not known; allowed: initial, max"),
        (with("/refresh/rejected_interval", json!("9s")), "refresh.rejected_interval: \"9s\" is out of bounds; allowed: 10s to 1h"),
        (with("/refresh/daily_budget", json!(0)), "refresh.daily_budget: 0 is out of bounds; allowed: 1 to 2000"),
        (with("/refresh/daily_budget", json!(2001)), "refresh.daily_budget: 2001 is out of bounds; allowed: 1 to 2000"),
        (with("/refresh/daily_budget", json!(false)), "refresh.daily_budget: is a boolean; allowed: a whole number, 1 to 2000"),
        (with("/on_unavailable/status", json!(404)), "on_unavailable.status: 404 is out of bounds; allowed: 500 to 599"),
        (with("/on_unavailable/status", json!(600)), "on_unavailable.status: 600 is out of bounds; allowed: 500 to 599"),
        (with("/on_unavailable/status", json!("503")), "on_unavailable.status: is a text; allowed: a whole number, 500 to 599"),
        (with("/on_unavailable/action", json!("block")), "on_unavailable.action: \"block\" is not known; allowed: fail, pass"),
        (with("/apps/0/refresh/lead", json!("1d")), "apps[0].refresh.lead: \"1d\" is not a duration; allowed: a number with a unit ms, s, m or h, for example 300s"),
    ]
}

pub(crate) fn rules() -> Vec<(Value, &'static str)> {
    vec![
        (with("/refresh/backoff", json!({"initial": "2m"})), "refresh.backoff.initial: 120s is above max, which is 60s; allowed: up to max"),
        (with("/refresh/backoff", json!({"max": "500ms"})), "refresh.backoff.initial: 1s is above max, which is 500ms; allowed: up to max"),
        (with("/apps/0/refresh/backoff", json!({"initial": "61s"})), "apps[0].refresh.backoff.initial: 61s is above max, which is 60s; allowed: up to max"),
        (with("/on_unavailable", json!({"action": "pass", "status": 503})), "on_unavailable.status: 503 is given, but action is pass; allowed: a status with action fail only"),
        (with("/apps/0/on_unavailable", json!({"action": "pass", "status": 503})), "apps[0].on_unavailable.status: 503 is given, but action is pass; allowed: a status with action fail only"),
        (json!({"apps": [{"appid": "wx1", "secret": {"value": MARKER}, "on_unavailable": {"status": 502}}], "on_unavailable": {"action": "pass"}}), "apps[0].on_unavailable.status: 502 is given, but action is pass; allowed: a status with action fail only"),
        (with("/paths/exclude", json!("/a")), "paths.exclude: is a text; allowed: a list"),
        (with("/paths/exclude", json!([""])), "paths.exclude[0]: \"\" is empty; allowed: an exact path of at most 1024 visible ASCII characters that begins with '/' and holds no '?', '#' or '*'"),
        (with("/paths/exclude", json!(["cgi-bin/ping"])), "paths.exclude[0]: \"cgi-bin/ping\" does not begin with '/'; allowed: an exact path of at most 1024 visible ASCII characters that begins with '/' and holds no '?', '#' or '*'"),
        (with("/paths/exclude", json!(["/a", "/a?b=c"])), "paths.exclude[1]: \"/a?b=c\" has a query; allowed: an exact path of at most 1024 visible ASCII characters that begins with '/' and holds no '?', '#' or '*'"),
        (with("/paths/exclude", json!(["/a#b"])), "paths.exclude[0]: \"/a#b\" has a fragment; allowed: an exact path of at most 1024 visible ASCII characters that begins with '/' and holds no '?', '#' or '*'"),
        (with("/paths/exclude", json!(["/cgi-bin/*"])), "paths.exclude[0]: \"/cgi-bin/*\" has a '*'; allowed: an exact path of at most 1024 visible ASCII characters that begins with '/' and holds no '?', '#' or '*'"),
        (with("/paths/exclude", json!(["/a b"])), "paths.exclude[0]: \"/a b\" has a space or a character outside ASCII; allowed: an exact path of at most 1024 visible ASCII characters that begins with '/' and holds no '?', '#' or '*'"),
        (with("/paths/exclude", json!([format!("/{}", "a".repeat(1024))])), "paths.exclude[0]: \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…\" is too long; allowed: an exact path of at most 1024 visible ASCII characters that begins with '/' and holds no '?', '#' or '*'"),
    ]
}
