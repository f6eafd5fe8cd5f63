//! A fake WeChat with one app, and the calls that its tests make.

// Each test program uses its part of it.
#![allow(dead_code)]

use serde_json::json;
use support::client::Client;
use support::wechat::{FakeWeChat, Settings};

pub const APPID: &str = "wx0123456789abcdef";
pub const SECRET: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";

pub struct World {
    pub fake: FakeWeChat,
    pub client: Client,
}

pub fn setup() -> World {
    setup_with(Settings::default())
}

pub fn setup_with(settings: Settings) -> World {
    let settings = settings.with_app(APPID, SECRET).with_control();
    World {
        fake: FakeWeChat::start_blocking(settings),
        client: Client::new(),
    }
}

impl World {
    pub fn classic_url(&self) -> String {
        let query = format!("grant_type=client_credential&appid={APPID}&secret={SECRET}");
        self.fake.url(&format!("/cgi-bin/token?{query}"))
    }

    /// A token from the classic endpoint.
    pub async fn classic(&self) -> String {
        let answer = self.client.get(&self.classic_url()).await.expect("a token");
        answer.json()["access_token"]
            .as_str()
            .expect("a token")
            .to_owned()
    }

    /// A token from the stable endpoint.
    pub async fn stable(&self) -> String {
        let body = json!({"grant_type": "client_credential", "appid": APPID, "secret": SECRET, "force_refresh": false});
        let url = self.fake.url("/cgi-bin/stable_token");
        let answer = self
            .client
            .post(&url, &[], body.to_string())
            .await
            .expect("a token");
        answer.json()["access_token"]
            .as_str()
            .expect("a token")
            .to_owned()
    }

    /// The errcode of a business call with this token.
    pub async fn business(&self, token: &str) -> i64 {
        let url = self
            .fake
            .url(&format!("/cgi-bin/user/get?access_token={token}"));
        self.client
            .get(&url)
            .await
            .expect("an answer")
            .errcode()
            .expect("an errcode")
    }

    /// The URL of a call on the control API.
    pub fn control(&self, path: &str) -> String {
        format!(
            "http://{}/control/{path}",
            self.fake.control_address().expect("a control API")
        )
    }
}
