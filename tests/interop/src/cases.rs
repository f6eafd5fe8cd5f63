//! The libraries: which key each reads, how the mesh is told of it, and how long its tokens live by its own rules.

use serde_json::{json, Value};

/// WeChat's tokens live this long here, in seconds; those of a real one live for two hours.
///
/// Twice what wechatpy 2 wants of a token that it shall not renew (60 s of the real clock), and some seconds: the mesh renews
/// a token after half of its life.
pub(crate) const LIFETIME: u64 = 140;
const REAL_LIFETIME: f64 = 7_200.0;

/// One library in one way of using it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// For people, and in the mirrors' keys.
    pub(crate) title: &'static str,
    /// The program, see `neighbours/README.md`.
    kind: &'static str,
    /// Its settings besides those that all have.
    settings: &'static [(&'static str, &'static str)],
    /// Those of a service that makes tokens by itself.
    when_own: &'static [(&'static str, &'static str)],
    /// Where the library keeps the token; the setting that says so holds the same.
    key: &'static str,
    format: &'static str,
    expires_at_key: Option<&'static str>,
    /// Its clock and deadlines can be told that time goes faster.
    is_scaled: bool,
}

const PLAIN: Case = Case {
    title: "",
    kind: "",
    settings: &[],
    when_own: &[],
    key: "",
    format: "plain",
    expires_at_key: None,
    is_scaled: true,
};

/// Every library. The secret is in node-easywechat's own key, so it is given another one.
pub(crate) const CASES: [Case; 8] = [
    Case {
        title: "seed",
        kind: "seed",
        settings: &[("KEY", "wechat:access_token:{appid}")],
        // Earlier than the mesh, which therefore follows this one all the time.
        when_own: &[("REFRESH_BEFORE_S", "4000")],
        key: "wechat:access_token:{appid}",
        ..PLAIN
    },
    Case {
        title: "wxjava-redis",
        kind: "wxjava-redis",
        key: "wx:access_token:{appid}",
        ..PLAIN
    },
    Case {
        title: "wxjava-redisson",
        kind: "wxjava-redisson",
        key: "wechat_ma_access_token_key:{appid}",
        format: "kryo5",
        ..PLAIN
    },
    Case {
        title: "wxjava-redisson-string",
        kind: "wxjava-redisson",
        settings: &[("CODEC", "string"), ("PREFIX", "shop")],
        key: "shop:wechat_ma_access_token_key:{appid}",
        ..PLAIN
    },
    Case {
        title: "silenceper",
        kind: "silenceper",
        key: "gowechat_officialaccount__access_token_{appid}",
        ..PLAIN
    },
    Case {
        title: "wechatpy",
        kind: "wechatpy",
        key: "wechatpy:{appid}_access_token",
        format: "json",
        ..PLAIN
    },
    Case {
        title: "wechatpy-2",
        kind: "wechatpy-2",
        settings: &[("PREFIX", "wechatpy2")],
        key: "wechatpy2:{appid}_access_token",
        format: "json",
        expires_at_key: Some("wechatpy2:{appid}_access_token_expires_at"),
        is_scaled: false,
        ..PLAIN
    },
    Case {
        title: "easywechat",
        kind: "easywechat",
        settings: &[("KEY", "easywechat.{appid}")],
        key: "easywechat.{appid}",
        ..PLAIN
    },
];

impl Case {
    /// The program's name for `run.sh`.
    pub(crate) fn program(&self) -> &'static str {
        self.kind
    }

    /// The key of an app.
    pub(crate) fn key(&self, appid: &str) -> String {
        self.key.replace("{appid}", appid)
    }

    /// The library's settings for an app, without `NEIGHBOUR_`.
    pub(crate) fn settings(&self, appid: &str, is_own: bool) -> Vec<(&'static str, String)> {
        let scale = match self.is_scaled {
            true => LIFETIME as f64 / REAL_LIFETIME,
            false => 1.0,
        };
        let when_own = self.when_own.iter().filter(|_| is_own);
        let own = self
            .settings
            .iter()
            .chain(when_own)
            .map(|(name, value)| (*name, value.replace("{appid}", appid)));
        own.chain([("LIFE_SCALE", scale.to_string())]).collect()
    }

    /// What the plugin is told.
    pub(crate) fn mirror(&self) -> Value {
        let mut mirror = json!({"key": self.key, "format": self.format});
        if let Some(key) = self.expires_at_key {
            mirror["expires_at_key"] = json!(key);
        }
        mirror
    }
}
