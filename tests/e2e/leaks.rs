//! No token and no secret is seen outside of the calls they belong to.

use crate::world::{plan, settings, SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_no_secret_is_in_a_log_an_admin_page_or_a_local_reply() {
    for setting in settings() {
        let world = plan(setting).start().await;
        world.ready().await;
        world.fake.revoke(crate::world::APPID, 40001);
        world.get("/cgi-bin/echo", &[]).await;
        world
            .get("/cgi-bin/echo?access_token=the-callers-own-token", &[])
            .await;
        let secret = format!("/sns/jscode2session?secret={SECRET}");
        world.get(&secret, &[]).await;
        let refused = world
            .get(
                "/cgi-bin/echo?access_token=the-callers-own-token",
                &[("x-wechat-appid", "wxunknown")],
            )
            .await;
        let mut seen = vec![("local reply", refused.text())];
        for page in [
            "/config_dump",
            "/stats",
            "/stats/prometheus",
            "/clusters",
            "/server_info",
        ] {
            seen.push((page, world.envoy.admin_get(page).await.text()));
        }
        let leaks = world.fake.leaks();
        let ended = world.envoy.terminate();
        assert!(
            ended.log.contains("GET /cgi-bin/echo"),
            "{setting:?}: there is an access log: {}",
            ended.log
        );
        seen.push(("log", ended.log));
        for (place, text) in seen {
            for leak in leaks
                .iter()
                .map(String::as_str)
                .chain(["the-callers-own-token"])
            {
                assert!(
                    !text.contains(leak),
                    "{setting:?}: {place} holds {}…",
                    &leak[..6]
                );
            }
        }
    }
}
