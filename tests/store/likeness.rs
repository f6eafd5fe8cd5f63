//! The model of the script, on which the mesh's tests stand, does what the script does.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use wechat_token::secret::Secret;
use wechat_token::store::{Answer, Nonce, Step, Version};
use wechat_token::time::{Millis, UnixMillis};

use crate::bed::{bed, value, LIFE, NONE};
use crate::model::Model;

/// Steps by three owners, of which the model must say what the real script says.
fn scripts() -> impl Strategy<Value = Vec<(u8, u8, u8, bool)>> {
    prop::collection::vec(
        (0..4_u8, 0..3_u8, 0..3_u8, prop::bool::weighted(0.15)),
        1..12,
    )
}

#[test]
fn the_model_of_the_script_does_what_the_script_does() {
    // Not by the macro: the server must end with the test.
    let bed = bed();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    let result = runner.run(&scripts(), |steps| {
        bed.redis.run::<()>(&["FLUSHALL"]);
        let start = bed.read().clock;
        let mut model = Model::default();
        // The versions that each side handed out, newest last.
        let (mut real, mut modelled) = (vec![NONE], vec![NONE]);
        for (kind, owner, nonce, is_late) in steps {
            let before = bed.read().clock;
            let deadline = |clock: UnixMillis| match is_late {
                true => UnixMillis(clock.0.saturating_sub(1)),
                false => UnixMillis(clock.0 + 60_000),
            };
            let known = |versions: &[Version]| {
                versions[versions.len().saturating_sub(1 + usize::from(nonce == 2))]
            };
            let step = |known: Version, clock: UnixMillis| match kind {
                0 => Step::Read,
                1 => Step::Lock {
                    owner: Nonce(owner.into()),
                    known,
                    ttl: LIFE,
                    deadline: deadline(clock),
                },
                2 => Step::Publish {
                    owner: Nonce(owner.into()),
                    known,
                    deadline: deadline(clock),
                    nonce: Nonce(nonce.into()),
                    token: Secret::new(format!("t{nonce}")),
                    left: LIFE,
                    life: LIFE,
                },
                _ => Step::Release {
                    owner: Nonce(owner.into()),
                    deadline: deadline(clock),
                },
            };
            let told = bed.step(&step(known(&real), before)).unwrap();
            // The model's clock is the real one, as it was at the step.
            let now = Millis(told.clock.0);
            let said = model.run(&step(known(&modelled), before), now);
            let state = |answer: &Answer| {
                (
                    answer.outcome,
                    answer.version != NONE,
                    value(answer).map(str::to_owned),
                    answer.locked_for.is_some(),
                )
            };
            prop_assert_eq!(state(&told), state(&said), "{:?}", step(NONE, before));
            prop_assert_eq!(
                told.version != *real.last().unwrap(),
                said.version != *modelled.last().unwrap()
            );
            prop_assert!(told.version >= *real.last().unwrap() && told.clock >= start);
            real.push(told.version);
            modelled.push(said.version);
        }
        Ok(())
    });
    result.unwrap_or_else(|problem| panic!("{problem}"));
}
