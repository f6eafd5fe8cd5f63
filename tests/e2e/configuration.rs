//! The plugin's configuration as Envoy hands it over: a `Struct`, which is how the shipped files give it, or JSON text in
//! a `StringValue`, in either role.

use serde_json::{json, Value};
use support::wechat::FakeWeChat;

use crate::settings::{setting, Placement, Setting};
use crate::world::{plan, Plan, APPID, SECRET, SOON};

/// The placement and the number of workers have no part in it.
const SETTINGS: [Setting; 2] = [
    setting("1.37.0", 1, Placement::Upstream),
    setting("1.40.0", 1, Placement::Upstream),
];

/// The roles whose document is JSON text; a `Struct` in the others.
const TEXTS: [&[&str]; 4] = [
    &[],
    &["refresher"],
    &["injector"],
    &["refresher", "injector"],
];

fn planned(setting: Setting, document: &Value, texts: &[&str]) -> Plan {
    let mut plan = plan(setting);
    plan.document = document.clone();
    for root_id in texts {
        plan.config.as_text(root_id);
    }
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_takes_its_configuration_in_either_form() {
    let document = json!({
        "apps": [{"appid": APPID, "name": "shop", "secret": {"env": "WECHAT_SECRET"}}],
        "wait": {"timeout": "4s", "max_requests": 7},
        "watch": true,
    });
    for setting in SETTINGS {
        for texts in TEXTS {
            let world = planned(setting, &document, texts).start().await;
            world.ready().await;
            let line = "event=token_renewed app=shop";
            world.envoy.wait_for_log(line, SOON).await;
            let log = world.envoy.logs();
            assert!(!log.contains(SECRET), "{setting:?}, {texts:?}");
            world.fake.report().assert_clean();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_document_is_refused_with_the_same_line_in_either_form() {
    let app = json!({"appid": APPID, "secret": {"env": "WECHAT_SECRET"}});
    for setting in SETTINGS {
        for (document, role, problem) in [
            (json!({}), "injector", "apps: is missing"),
            // Only the refresher needs it, and Envoy configures it later.
            (
                json!({"apps": [{"appid": APPID}]}),
                "refresher",
                "apps[0].secret: is missing; allowed: {env: NAME}",
            ),
            (
                json!({"apps": [app], "wait": {"max_requests": 0}}),
                "injector",
                "wait.max_requests: 0 is out of bounds; allowed: 1 to 1000000",
            ),
            (
                json!({"apps": [app, null]}),
                "injector",
                "apps[1]: is null; allowed: an object of",
            ),
            (
                json!({"apps": [{"appid": APPID, "secret": SECRET}]}),
                "injector",
                "apps[0].secret: is a text; allowed: {env: NAME}",
            ),
        ] {
            for texts in [TEXTS[0], TEXTS[3]] {
                let plan = planned(setting, &document, texts);
                let fake = FakeWeChat::start(plan.settings.clone()).await;
                let ended = plan.builder(&fake).expect_refused().await;
                let refused = ended.log.matches("event=config_refused").count();
                let case = format!("{setting:?}, {texts:?}: {}", ended.log);
                assert!(!ended.status.success() && refused == 1, "{case}");
                assert!(
                    ended
                        .log
                        .contains(&format!("role={role} problem=\"{problem}")),
                    "{case}"
                );
                assert!(!ended.log.contains(SECRET), "{case}");
            }
        }
    }
}
