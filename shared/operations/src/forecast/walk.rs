//! An order's way through this build's saga core in memory: services answer as their looks tell, waits pass at once, every
//! publish is confirmed.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use orderfleet_domain::{
    Command, CommandKind, StepName,
    saga::{
        CallOutcome, DeadLetterQueue, Delivered, Effect, Handling, Input, Lane, Millis, Moment, Nonce, Phase,
        Policy, Publication, Record, Tier, Verb, WorkerId, step_instance,
    },
};

use super::{
    document::Document,
    looks::{Answer, Look, Looks, Outlook, State},
    verdict::Unsure,
};

/// More than the longest way takes: 1,000 attempts at one step with 10 repeats each.
const MOMENTS_MAX: u32 = 100_000;
const TOMBSTONE: &str = r#"{"tombstone":true}"#;

/// One way.
pub(super) struct Walk<'a> {
    policy: &'a Policy,
    looks: &'a Looks,
    document: Document,
    /// First run that works on the order as it is now; what a service knows of it from before is about another order.
    order_since: u32,
    /// The order is being undone from the beginning: its effects are at the services, not imagined.
    is_undoing: bool,
    now: Millis,
    moments: u32,
    messages: VecDeque<(Command, Lane)>,
    poison: bool,
    in_general: Vec<StepName>,
    /// By step instance: every attempt at a step would be answered the same.
    seen: HashMap<String, Look>,
}

/// Where a way ended.
pub(super) struct Walked {
    /// The order's document.
    pub(super) record: Option<Record>,
    /// A message was parked that no worker can work with.
    pub(super) poison: bool,
    /// Steps whose services told what they answer to orders in general.
    pub(super) in_general: Vec<StepName>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        looks: &'a Looks,
        record: Option<Record>,
        order_since: u32,
    ) -> Self {
        Self {
            policy,
            looks,
            order_since,
            is_undoing: record.as_ref().is_some_and(|record| record.phase == Phase::Comp),
            document: Document(record),
            now: Timestamp::now().as_millisecond(),
            moments: 0,
            messages: VecDeque::new(),
            poison: false,
            in_general: Vec::new(),
            seen: HashMap::new(),
        }
    }

    /// Goes from a message in the lane of replays to where no message is left.
    ///
    /// # Errors
    /// The looks do not tell how it would go on.
    pub(super) async fn go(mut self, first: Command) -> Result<Walked, Unsure> {
        self.messages.push_back((first, Lane::Replay));
        while let Some((command, lane)) = self.messages.pop_front() {
            self.handle(Delivered { command, redelivered: false, lane }).await?;
        }
        Ok(Walked { record: self.document.0, poison: self.poison, in_general: self.in_general })
    }

    async fn handle(&mut self, delivered: Delivered) -> Result<(), Unsure> {
        let mut handling = Handling::new(delivered, WorkerId("forecast".into()));
        let mut input = Input::Delivered;
        loop {
            let effect = handling.on(self.policy, &self.moment()?, input);
            input = match effect {
                Effect::Ack(_) => return Ok(()),
                Effect::Call { step, verb, .. } => Input::Called(self.call(&handling, step, verb).await?),
                Effect::Publish(publications) => {
                    for publication in publications {
                        self.publish(&handling.delivered().command, publication);
                    }
                    Input::Confirmed
                }
                operation => Input::Store(self.document.perform(&operation)),
            };
        }
    }

    fn moment(&mut self) -> Result<Moment, Unsure> {
        self.moments += 1;
        if self.moments > MOMENTS_MAX {
            return Err(Unsure::new("it would go on waiting"));
        }
        let nonce = Nonce(u128::from(self.moments));
        Ok(Moment { now: self.now, nonce, blocked: false, draining: false })
    }

    fn publish(&mut self, command: &Command, publication: Publication) {
        match publication {
            Publication::Copy { lane, wait } => {
                self.now += wait.map_or(0, Tier::millis);
                self.messages.push_back((command.clone(), lane));
            }
            Publication::Compensate(record) => {
                let lane = Lane::Compensate(record.failed_step().clone());
                // The document decides what is undone, whatever the message says.
                let kind = CommandKind::Resume {};
                let command = Command { generation: record.generation, fp: None, kind, ..command.clone() };
                self.messages.push_back((command, lane));
            }
            Publication::DeadLetter { queue: DeadLetterQueue::Poison, .. } => self.poison = true,
            Publication::DeadLetter { .. } | Publication::Event(_) => {}
        }
    }

    async fn call(&mut self, handling: &Handling, step: u32, verb: Verb) -> Result<CallOutcome, Unsure> {
        let Some(record) = handling.record() else {
            return Ok(CallOutcome::NotSent { what: "the order is not at hand".into() });
        };
        let step = record.step(step);
        let undone = CallOutcome::Success { result: TOMBSTONE.into() };
        if verb == Verb::Undo && !self.is_undoing {
            return Ok(undone);
        }
        let look = self.look(step, step_instance(handling.order_id(), record.generation, step)).await?;
        match (verb, look.state) {
            (Verb::Undo, State::Done) => {
                Err(Unsure::at(step, "no look tells whether the service would take its effect back"))
            }
            (Verb::Undo, _) => Ok(undone),
            (Verb::Do, State::Done) => Ok(CallOutcome::Success { result: look.result }),
            (Verb::Do, State::Undone) => Ok(CallOutcome::Cancelled),
            (Verb::Do, State::None | State::Refused) => self.foretold(step, look.outlook),
        }
    }

    async fn look(&mut self, step: &StepName, instance: String) -> Result<Look, Unsure> {
        if let Some(look) = self.seen.get(&instance) {
            return Ok(look.clone());
        }
        let look = self.looks.look(step, &instance).await.map_err(|why| Unsure::at(step, why))?;
        self.seen.insert(instance, look.clone());
        Ok(look)
    }

    fn foretold(&mut self, step: &StepName, outlook: Option<Outlook>) -> Result<CallOutcome, Unsure> {
        let Some(Outlook { answer, generation }) = outlook else {
            return Err(Unsure::at(step, "the service does not tell what it would answer"));
        };
        match generation {
            Some(generation) if generation < self.order_since => {
                return Err(Unsure::at(step, "the service knows the order as it was before its correction"));
            }
            None if !self.in_general.contains(step) => self.in_general.push(step.clone()),
            _ => {}
        }
        Ok(match answer {
            Answer::Done => CallOutcome::Success { result: "{}".into() },
            Answer::Refused { code } => CallOutcome::Refused { code, message: String::new() },
            Answer::Error => CallOutcome::Unknown { what: "the outlook".into(), retry_after: None },
        })
    }
}
