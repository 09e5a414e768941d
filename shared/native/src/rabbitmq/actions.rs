//! What can befall a broker besides its end, and what its queues hold. Each action is one run of `rabbitmqctl`, which
//! takes half a second to a second, and returns evidence of what it did.

use super::RabbitMq;
use crate::Error;

/// So little memory that any broker uses more: an alarm at once.
const WATERMARK_OF_AN_ALARM: &str = "0.0000001";
/// How often, 50 ms apart, the broker looks for a change of its alarms.
const ALARM_LOOKS_MAX: u32 = 200;

/// What a queue holds, asked of its leader: the figures of `rabbitmqctl list_queues` are up to 5 s old for quorum queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueCounts {
    /// Its name.
    pub name: String,
    /// Messages waiting for a consumer or for their time to live.
    pub ready: u64,
    /// Messages delivered and not yet acked.
    pub unacked: u64,
    /// Messages on their way to a dead-letter exchange, at least once: neither ready nor unacked, and not gone.
    pub dead_lettering: u64,
}

impl RabbitMq {
    /// Evaluates an Erlang expression, without its full stop, in the broker and returns what it printed and its value.
    ///
    /// # Errors
    /// When it fails; the error carries what it said.
    pub async fn eval(&self, expression: &str) -> Result<String, Error> {
        self.rabbitmqctl(&["eval", &format!("{expression}.")]).await
    }

    /// Raises or clears the memory alarm and waits until it shows. While it is raised, the broker reads nothing from
    /// connections that publish. Returns the resources with an alarm in force afterwards, such as `memory`. A second
    /// call changes nothing; a restart clears it.
    ///
    /// # Errors
    /// When the alarm does not follow within 10 s, or `rabbitmqctl` fails.
    pub async fn set_memory_alarm(&self, on: bool) -> Result<Vec<String>, Error> {
        let watermark = if on { WATERMARK_OF_AN_ALARM } else { "Configured" };
        let printed = self
            .eval(&format!(
                "{{ok, Configured}} = application:get_env(rabbit, vm_memory_high_watermark), \
                 ok = vm_memory_monitor:set_vm_memory_high_watermark({watermark}), \
                 Alarms = fun() -> [S || {{{{resource_limit, S, _}}, _}} <- rabbit_alarm:get_alarms()] end, \
                 Settle = fun Look(Left) -> case lists:member(memory, Alarms()) of \
                   Now when Now =:= {on}; Left =:= 0 -> ok; _ -> timer:sleep(50), Look(Left - 1) end end, \
                 Settle({ALARM_LOOKS_MAX}), lists:foreach(fun(S) -> io:format(\"~s~n\", [S]) end, Alarms())"
            ))
            .await?;
        let alarms: Vec<String> = results(&printed).map(str::to_owned).collect();
        if alarms.iter().any(|resource| resource == "memory") == on {
            return Ok(alarms);
        }
        let attempt = if on { "raise the memory alarm" } else { "clear the memory alarm" };
        Err(Error::Refused { attempt, reason: format!("alarms in force: {}", alarms.join(", ")) })
    }

    /// Closes every AMQP connection as an operator would, `reason` being told to the clients. Returns how many there were.
    ///
    /// # Errors
    /// When `rabbitmqctl` fails.
    pub async fn close_all_connections(&self, reason: &str) -> Result<u64, Error> {
        let reason = text(reason);
        let printed = self
            .eval(&format!(
                "Open = rabbit_networking:connections(), \
                 ok = rabbit_networking:close_connections(Open, binary_to_list({reason})), \
                 io:format(\"~w~n\", [length(Open)])"
            ))
            .await?;
        number(&printed, "close all connections")
    }

    /// What every queue of the virtual host `/` holds now, by name. A quorum queue without a leader is an error.
    ///
    /// # Errors
    /// When a queue does not answer within 5 s, or `rabbitmqctl` fails.
    pub async fn list_queues(&self) -> Result<Vec<QueueCounts>, Error> {
        let printed = self
            .eval(
                "Ask = fun(Q, F) -> {ok, {_, N}, _} = ra:leader_query(amqqueue:get_pid(Q), F, 5000), N end, \
                 Counts = fun(Q) -> case amqqueue:get_type(Q) of \
                   rabbit_quorum_queue -> {Dead, _Bytes} = Ask(Q, fun rabbit_fifo:query_stat_dlx/1), \
                     [Ask(Q, fun rabbit_fifo:query_messages_ready/1), \
                      Ask(Q, fun rabbit_fifo:query_messages_checked_out/1), Dead]; \
                   _ -> [N || {_, N} <- rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged])] ++ [0] \
                 end end, \
                 lists:foreach(fun(Q) -> {resource, _, queue, Name} = amqqueue:get_name(Q), \
                   io:format(\"~w ~w ~w ~ts~n\", Counts(Q) ++ [Name]) end, rabbit_amqqueue:list(<<\"/\">>))",
            )
            .await?;
        let mut queues: Vec<QueueCounts> = results(&printed).filter_map(counts).collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(queues)
    }

    /// Removes the ready messages of a queue of the virtual host `/` and returns how many there were.
    ///
    /// # Errors
    /// When there is no such queue, or `rabbitmqctl` fails.
    pub async fn purge(&self, queue: &str) -> Result<u64, Error> {
        let name = text(queue);
        let printed = self
            .eval(&format!(
                "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, {name})), \
                 {{ok, N}} = rabbit_amqqueue:purge(Q), io:format(\"~w~n\", [N])"
            ))
            .await?;
        number(&printed, "purge a queue")
    }
}

/// Our lines; the last one printed is the expression's own value, `ok`.
fn results(printed: &str) -> impl Iterator<Item = &str> {
    let lines = printed.trim_end().rsplit_once('\n').map_or("", |(ours, _ok)| ours);
    lines.lines()
}

fn number(printed: &str, attempt: &'static str) -> Result<u64, Error> {
    let number = results(printed).next().and_then(|line| line.trim().parse().ok());
    number.ok_or_else(|| Error::Refused { attempt, reason: printed.trim().to_owned() })
}

fn counts(line: &str) -> Option<QueueCounts> {
    let mut fields = line.splitn(4, ' ');
    let mut number = || fields.next()?.parse().ok();
    let (ready, unacked, dead_lettering) = (number()?, number()?, number()?);
    Some(QueueCounts { name: fields.next()?.to_owned(), ready, unacked, dead_lettering })
}

/// An Erlang binary by its bytes, which needs no escaping.
fn text(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    format!("<<{}>>", bytes.join(","))
}
