//! Changing what is declared on a broker, so that no message is lost by it.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    Channel, Connection,
    options::{BasicGetOptions, BasicNackOptions, ExchangeDeleteOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{error::Elapsed, sleep, timeout};

use super::{
    Counts, InspectionError, Inspector, Item,
    answer::{ANSWER_TIMEOUT, NOT_IMPLEMENTED, PRECONDITION_FAILED, answer, code, told},
    close,
};
use crate::{Topology, topology::Binding};

/// How often, and how long apart, a queue is looked at before it is deleted unguarded: what was routed to it before its
/// bindings were taken has arrived by then.
const LOOKS: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(200);

impl Inspector {
    /// Declares an exchange or a queue as the topology says. A second call changes nothing.
    ///
    /// # Errors
    /// It is there with other properties, this user may not declare it, or no answer in time.
    pub async fn declare(&self, item: &Item) -> Result<(), InspectionError> {
        if !self.topology.items().contains(item) {
            return Err(InspectionError::Undeclared(item.clone()));
        }
        let what = || format!("declare {item}");
        let declared = async {
            let channel = self.connection.create_channel().await?;
            self.topology.declare_again(item, &channel).await
        };
        answer(what, declared).await
    }

    /// Makes a declared binding. A second call changes nothing.
    ///
    /// # Errors
    /// Its queue or its exchange is missing, this user may not bind, or no answer in time.
    pub async fn bind(&self, binding: &Binding) -> Result<(), InspectionError> {
        let what = || format!("bind {} to {}", binding.queue, binding.exchange);
        let bound = async { binding.declare(&self.connection.create_channel().await?).await };
        answer(what, bound).await
    }

    /// Deletes an exchange or a queue, only if it is empty and unused.
    ///
    /// An exchange has its declared bindings taken first; the broker refuses while it has others. A classic queue is checked
    /// by the broker. For quorum queues the broker has no such check (RabbitMQ issue 10543): with `drained`, somebody's word
    /// that nothing is on its way from it to a dead-letter exchange, its declared bindings are taken, so that publishes to it
    /// are returned to their publishers, and it is deleted after it was seen empty and unused for a second and had no message
    /// to give away right before. A queue without a leader or a majority cannot answer that, and is left alone. When it is
    /// not deleted, the bindings are made again; a crash in between leaves it without them until [`Inspector::bind`], or the
    /// start of a service. A message that was given away is put back; a crash before that counts it as delivered once.
    ///
    /// # Errors
    /// [`InspectionError::InUse`]; [`InspectionError::Unguarded`] for a quorum queue without `drained`; no answer; or
    /// [`InspectionError::Lost`], with which the queue is gone, and its bindings with it.
    pub async fn delete(&self, item: &Item, drained: bool) -> Result<(), InspectionError> {
        match item {
            Item::Exchange(name) => {
                let own = |binding: &Binding| binding.exchange == *name;
                self.without_bindings(own, self.delete_exchange(name)).await
            }
            Item::Queue(name) => match self.delete_guarded(name).await {
                Err(InspectionError::Unguarded { .. }) if drained => {
                    let own = |binding: &Binding| binding.queue == *name;
                    self.without_bindings(own, self.delete_once_quiet(name)).await
                }
                deleted => deleted,
            },
        }
    }

    async fn without_bindings(
        &self,
        own: impl Fn(&Binding) -> bool,
        delete: impl Future<Output = Result<(), InspectionError>>,
    ) -> Result<(), InspectionError> {
        let bindings: Vec<_> = self.topology.bindings().iter().filter(|binding| own(binding)).collect();
        let deleted = async {
            for binding in &bindings {
                self.unbind(binding).await?;
            }
            delete.await
        };
        let error = match deleted.await {
            // Nothing is left to be bound.
            gone @ (Ok(()) | Err(InspectionError::Lost { .. })) => return gone,
            Err(error) => error,
        };
        for binding in bindings {
            if let Err(unbound) = self.bind(binding).await {
                tracing::error!(error = %unbound, "a binding is missing now");
            }
        }
        Err(error)
    }

    async fn unbind(&self, binding: &Binding) -> Result<(), InspectionError> {
        let what = || format!("unbind {} from {}", binding.queue, binding.exchange);
        let Binding { exchange, queue, routing_key } = binding;
        let unbound = async {
            let channel = self.connection.create_channel().await?;
            let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
            channel.queue_unbind(queue, exchange, routing_key.as_str().into(), FieldTable::default()).await
        };
        answer(what, unbound).await
    }

    async fn delete_exchange(&self, name: &str) -> Result<(), InspectionError> {
        let options = ExchangeDeleteOptions { if_unused: true, nowait: false };
        let deleted =
            async { self.connection.create_channel().await?.exchange_delete(name.into(), options).await };
        judge(name, timeout(ANSWER_TIMEOUT, deleted).await)
    }

    /// On a connection of its own: the broker ends the connection of who asks this of a quorum queue.
    async fn delete_guarded(&self, name: &str) -> Result<(), InspectionError> {
        let connection = self.another_connection().await?;
        let options = QueueDeleteOptions { if_unused: true, if_empty: true, nowait: false };
        let deleted =
            async { connection.create_channel().await?.queue_delete(name.into(), options).await.map(drop) };
        let deleted = judge(name, timeout(ANSWER_TIMEOUT, deleted).await);
        close(connection).await;
        deleted
    }

    /// On a connection of its own: the broker ends the connection of who asks a queue without a leader for a message.
    async fn delete_once_quiet(&self, name: &str) -> Result<(), InspectionError> {
        self.stays_quiet(name).await?;
        let connection = self.another_connection().await?;
        let deleted = delete_if_empty(&connection, name).await;
        close(connection).await;
        deleted
    }

    async fn stays_quiet(&self, name: &str) -> Result<(), InspectionError> {
        for look in 0..LOOKS {
            if look > 0 {
                sleep(LOOK_PAUSE).await;
            }
            let Counts { ready, consumers } = self.counts(name).await?;
            if (ready, consumers) != (0, 0) {
                let text = format!("{ready} messages, {consumers} consumers");
                return Err(InspectionError::InUse { name: name.to_owned(), text });
            }
        }
        Ok(())
    }
}

/// The deletion follows the answer at once. It guards nothing by itself: without a leader the broker takes a queue for empty,
/// and deletes it by force (`rabbit_quorum_queue:delete/4`, RabbitMQ 3.10 to 4.1).
async fn delete_if_empty(connection: &Connection, name: &str) -> Result<(), InspectionError> {
    let what = || format!("say whether {name} is empty");
    let channel = answer(what, connection.create_channel()).await?;
    gives_nothing(&channel, name).await?;
    let options = QueueDeleteOptions { if_unused: false, if_empty: false, nowait: false };
    let deleted = timeout(ANSWER_TIMEOUT, channel.queue_delete(name.into(), options)).await;
    match judge(name, deleted)? {
        0 => Ok(()),
        messages => Err(InspectionError::Lost { name: name.to_owned(), messages }),
    }
}

/// Asks for a message, which is a command in the queue's Raft log: unlike a count, it is answered by a leader with a majority,
/// or not at all.
async fn gives_nothing(channel: &Channel, name: &str) -> Result<(), InspectionError> {
    let what = || format!("say whether {name} is empty");
    let asked = channel.basic_get(name.into(), BasicGetOptions { no_ack: false });
    let Some(message) = answer(what, asked).await? else { return Ok(()) };
    let options = BasicNackOptions { multiple: false, requeue: true };
    // Whatever comes of this: the broker puts it back when the channel ends.
    if let Err(error) = message.nack(options).await {
        tracing::debug!(%error, "putting a message back");
    }
    Err(InspectionError::InUse { name: name.to_owned(), text: "a message".into() })
}

/// What the answer to a deletion means.
fn judge<T>(name: &str, answer: Result<lapin::Result<T>, Elapsed>) -> Result<T, InspectionError> {
    let (name, what) = (name.to_owned(), format!("delete {name}"));
    match answer {
        Ok(Ok(deleted)) => Ok(deleted),
        Ok(Err(error)) => Err(match code(&error) {
            Some(NOT_IMPLEMENTED) => InspectionError::Unguarded { name },
            Some(PRECONDITION_FAILED) => InspectionError::InUse { name, text: told(&error) },
            Some(_) => InspectionError::Refused { what, text: told(&error) },
            None => InspectionError::NoAnswer { what, text: told(&error) },
        }),
        Err(_) => Err(InspectionError::NoAnswer { what, text: "no answer in time".into() }),
    }
}

impl Topology {
    /// Every declared binding.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The declared arguments of a queue, numbers as text.
    #[must_use]
    pub fn queue_arguments(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let queue = self.queues.iter().find(|queue| queue.name == name)?;
        let text = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => text.to_string(),
            AMQPValue::LongLongInt(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        let arguments = queue.arguments();
        Some(arguments.inner().iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    /// What every name of this fleet's exchanges and queues begins with.
    #[must_use]
    pub fn own_prefix(&self) -> String {
        self.orders()
    }
}
