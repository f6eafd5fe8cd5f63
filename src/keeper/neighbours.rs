//! What the neighbours' keys tell: a neighbour that has refreshed by itself, or keys that lack our token.

use std::time::Duration;

use super::{Shared, Todo};
use crate::secret::Secret;
use crate::store::link::as_local;
use crate::store::link::neighbours::Origin;
use crate::store::mirror::Found;
use crate::store::{Answer, Outcome, Stored};
use crate::time::Millis;
use crate::token::{self, Machine, Moment, Report};

/// A token of ours that is younger than this may come from a call that a neighbour made at the same time: it is found
/// when the keys are read next, up to a minute later. Which of the two WeChat answered last nobody can tell.
const MAY_BE_RIVAL: Duration = Duration::from_secs(90);
/// But no longer than this part of a token's life, for tokens that live for minutes.
const RIVAL_PART: u32 = 16;

impl Shared {
    /// Compares what the neighbours' keys have with what is here; true when they lack our token.
    pub(super) fn meet(
        &mut self,
        machine: &mut Machine,
        answer: &Answer,
        asked_at: Millis,
        moment: &Moment,
        todo: &mut Todo,
    ) -> bool {
        if let Some(outcome) = &answer.mirrored {
            if self.link.mirrored(outcome, moment.now, moment.sample) {
                todo.report(Report::MirrorRefused);
            }
        }
        let foreign = self.foreign(machine, answer, moment.now);
        // The one with the longest life is the newest, as far as that can be known.
        let newest = foreign.iter().max_by_key(|(_, left)| *left).copied();
        for (value, _) in foreign {
            self.link.ignore(value);
        }
        match newest {
            Some((value, Some(left))) if self.adopts => {
                let token = Stored {
                    value: value.clone(),
                    left,
                    life: left,
                };
                self.follow(machine, &token, asked_at, moment, todo);
            }
            Some(_) => todo.report(Report::NeighbourIgnored),
            None => {}
        }
        // What was read before a token was published, or written, is old.
        answer.mirrored.is_none()
            && answer.outcome != Outcome::Published
            && self.is_wrong(machine, answer, moment.now)
    }

    /// Tokens that are none of ours. What is ours is here, or has been in the store, which tells what it has had.
    fn foreign<'a>(
        &self,
        machine: &Machine,
        answer: &'a Answer,
        now: Millis,
    ) -> Vec<(&'a Secret, Option<Duration>)> {
        let here = machine.serve(now).map(|token| &token.value);
        let tokens = answer.mirrors.iter().filter_map(|found| match found {
            Found::Token { value, left } => Some((value, *left)),
            Found::Nothing | Found::Other => None,
        });
        tokens
            .filter(|(value, _)| Some(*value) != here && self.link.origin(value) == Origin::Foreign)
            .collect()
    }

    /// Takes a neighbour's token over, and has the store told of it.
    fn follow(
        &mut self,
        machine: &mut Machine,
        token: &Stored,
        asked_at: Millis,
        moment: &Moment,
        todo: &mut Todo,
    ) {
        let now = moment.now;
        let is_young = |token: &token::Token| {
            now.since(token.granted_at) < MAY_BE_RIVAL.min(token.life() / RIVAL_PART)
        };
        let is_doubtful = self.is_exclusive && machine.serve(now).is_some_and(is_young);
        let before = machine.generation();
        let token = as_local(token, asked_at);
        let event = token::Event::Adopted { token, is_doubtful };
        todo.add(machine.handle(event, moment));
        if machine.generation() != before {
            todo.report(Report::NeighbourFollowed);
            self.link.owe(false, now, moment.sample);
        }
    }

    /// Whether a key lacks the token that all of us have: it was emptied, or has an older one of ours.
    fn is_wrong(&self, machine: &Machine, answer: &Answer, now: Millis) -> bool {
        let Some(here) = machine.serve(now).map(|token| &token.value) else {
            return false;
        };
        let there = answer.token.as_ref().map(|token| &token.value);
        let is_due = machine.next_wakeup() <= now;
        let lacks = |found: &Found| match found {
            Found::Nothing => true,
            Found::Token { value, .. } => value != here && self.link.origin(value) == Origin::Ours,
            Found::Other => false,
        };
        there == Some(here) && !is_due && answer.mirrors.iter().any(lacks)
    }
}
