//! Whether this user may do what the fleet's services do: asked so that the broker looks at the rights, and then refuses.
//!
//! A look at the topology needs the right to configure alone. The questions here can have no effect, whatever is bound or
//! queued: the broker looks at the rights first, then at the arguments (`rabbit_channel`, `basic.publish` and `basic.consume`,
//! RabbitMQ 3.10 to 4.1), and these are wrong. It writes a line into its log for each.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lapin::{
    BasicProperties, Connection,
    options::{BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use super::{
    InspectionError, Inspector, LOOKS_AT_ONCE,
    answer::{ACCESS_REFUSED, ANSWER_TIMEOUT, code, told},
    close,
};
use crate::topology::Binding;

/// No number, as a time to live and a priority have to be; and no routing key of ours. It is read in the broker's log.
const QUESTION: &str = "orderfleet doctor: is it allowed?";

/// Something that this user may not do, and the fleet's services do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What, such as `publish to exchange orders`.
    pub what: String,
    /// The broker's words.
    pub text: String,
}

enum Right<'a> {
    Publish(&'a str),
    Consume(&'a str),
    Bind(&'a Binding),
}

impl Inspector {
    /// What this user may not do with what is declared: publish to an exchange, consume a queue, bind one. Nothing is
    /// published, consumed or bound by asking. Of what is not there nothing is told. On a connection of its own.
    ///
    /// # Errors
    /// No answer in time, as when an alarm blocks publishing.
    pub async fn refusals(&self) -> Result<Vec<Refusal>, InspectionError> {
        let exchanges = self.topology.exchanges.iter().map(|exchange| Right::Publish(&exchange.name));
        let queues = self.topology.queues.iter().map(|queue| Right::Consume(&queue.name));
        let bindings = self.topology.bindings.iter().map(Right::Bind);
        let rights: Vec<_> = exchanges.chain(queues).chain(bindings).collect();
        let connection = self.another_connection().await?;
        let asked = stream::iter(&rights).map(|right| right.refusal(&connection));
        let asked: Result<Vec<_>, _> = asked.buffered(LOOKS_AT_ONCE).try_collect().await;
        close(connection).await;
        Ok(asked?.into_iter().flatten().collect())
    }
}

impl Right<'_> {
    async fn refusal(&self, connection: &Connection) -> Result<Option<Refusal>, InspectionError> {
        let asked = timeout(ANSWER_TIMEOUT, self.ask(connection)).await;
        match asked {
            Ok(Err(error)) if code(&error) == Some(ACCESS_REFUSED) => {
                Ok(Some(Refusal { what: self.what(), text: told(&error) }))
            }
            Ok(Err(error)) if code(&error).is_none() => {
                Err(InspectionError::NoAnswer { what: self.question(), text: told(&error) })
            }
            Ok(_) => Ok(None),
            Err(_) => {
                Err(InspectionError::NoAnswer { what: self.question(), text: "no answer in time".into() })
            }
        }
    }

    /// On a channel of its own, which the refusal closes.
    async fn ask(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        match *self {
            Self::Publish(exchange) => {
                channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
                let options = BasicPublishOptions { mandatory: true, immediate: false };
                let properties = BasicProperties::default().with_expiration(QUESTION.into());
                let published =
                    channel.basic_publish(exchange.into(), QUESTION.into(), options, b"", properties).await?;
                published.await.map(drop)
            }
            Self::Consume(queue) => {
                // A broker that took the argument would deliver one message until the connection ends, and not them all.
                channel.basic_qos(1, BasicQosOptions::default()).await?;
                let mut arguments = FieldTable::default();
                arguments.insert("x-priority".into(), AMQPValue::LongString(QUESTION.into()));
                let options =
                    BasicConsumeOptions { no_local: false, no_ack: false, exclusive: false, nowait: false };
                channel.basic_consume(queue.into(), "".into(), options, arguments).await.map(drop)
            }
            // To take a binding that is not there changes nothing, and needs the same rights as to make one.
            Self::Bind(Binding { exchange, queue, .. }) => {
                let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
                channel.queue_unbind(queue, exchange, QUESTION.into(), FieldTable::default()).await
            }
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Publish(exchange) => format!("publish to exchange {exchange}"),
            Self::Consume(queue) => format!("consume queue {queue}"),
            Self::Bind(Binding { exchange, queue, .. }) => {
                format!("bind queue {queue} to exchange {exchange}")
            }
        }
    }

    fn question(&self) -> String {
        format!("say whether this user may {}", self.what())
    }
}
