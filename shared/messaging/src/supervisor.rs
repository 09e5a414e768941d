//! The publishing connections. Each is made, watched and made again by a task of its own; whoever publishes only waits for
//! one, so that no deadline of a request can end a connection half-way and begin another.

use std::{sync::Arc, time::Duration};

use deadpool::managed::Manager as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    BrokerSettings, ConnectError, Delays, Topology,
    connection::{CONNECT_TIMEOUT, chain, properties, with_frame_max},
    live::LiveConnection,
    meters::METERS,
};

/// So long after a connection was lost callers wait for the next one. Later they are told at once why there is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// Delays between two tries to connect.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// A connection that lived this long was a good one: the next reconnect starts with the shortest delay.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);

/// Connections that are kept up for as long as this exists.
#[derive(Debug)]
pub(crate) struct Connections {
    table: watch::Receiver<Table>,
    _supervisors: JoinSet<()>,
}

#[derive(Debug)]
struct Table {
    /// One place per supervisor.
    live: Vec<Option<Arc<LiveConnection>>>,
    /// When one was last lost, and the latest trouble with any.
    lost_at: Instant,
    trouble: String,
}

impl Connections {
    /// Keeps `count` connections up, the first of which is there already.
    pub(crate) fn supervise(connector: Connector, first: Arc<LiveConnection>, count: usize) -> Self {
        let table = Table { live: vec![None; count], lost_at: Instant::now(), trouble: String::new() };
        let (sender, receiver) = watch::channel(table);
        let (sender, connector) = (Arc::new(sender), Arc::new(connector));
        let mut first = Some(first);
        let supervise = |place| {
            let (connector, table) = (Arc::clone(&connector), Arc::clone(&sender));
            Supervisor { connector, table, place }.run(first.take())
        };
        Self { table: receiver, _supervisors: (0..count).map(supervise).collect() }
    }

    /// A connection to open a channel on. Just after a loss one is waited for.
    pub(crate) async fn get(&self) -> Result<Arc<LiveConnection>, ConnectError> {
        let mut table = self.table.clone();
        let until = table.borrow().lost_at + PATIENCE;
        let found = timeout_at(until, table.wait_for(|table| table.idlest().is_some())).await;
        let found = found.ok().and_then(Result::ok).and_then(|table| table.idlest());
        found.ok_or_else(|| ConnectError::NoConnection(self.table.borrow().trouble.clone()))
    }

    /// What is wrong with the connections, if anything is.
    pub(crate) fn trouble(&self) -> Option<ConnectError> {
        let table = self.table.borrow();
        match table.idlest() {
            None => Some(ConnectError::NoConnection(table.trouble.clone())),
            Some(live) => live.is_blocked().then_some(ConnectError::Blocked),
        }
    }
}

impl Table {
    /// Of those that can be used, if any can, the one with the fewest channels: each holds its connection.
    fn idlest(&self) -> Option<Arc<LiveConnection>> {
        let cost = |live: &&Arc<LiveConnection>| (!live.is_up(), live.is_blocked(), Arc::strong_count(live));
        self.live.iter().flatten().min_by_key(cost).cloned()
    }
}

/// Keeps one connection up.
struct Supervisor {
    connector: Arc<Connector>,
    table: Arc<watch::Sender<Table>>,
    place: usize,
}

impl Supervisor {
    async fn run(self, mut first: Option<Arc<LiveConnection>>) {
        let mut delays = Delays::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            let connected = match first.take() {
                Some(first) => Ok(first),
                None => self.connector.connect().await,
            };
            let trouble = match connected {
                Ok(live) => self.watch(live, &mut delays).await,
                Err(error) => chain(&error),
            };
            tracing::warn!(error = trouble, "no connection for publishing; connecting again");
            self.connector.topology.doubt();
            self.table.send_modify(|table| table.trouble = trouble);
            sleep(delays.next_delay()).await;
        }
    }

    /// Offers a connection until it is lost.
    async fn watch(&self, live: Arc<LiveConnection>, delays: &mut Delays) -> String {
        let began = Instant::now();
        tracing::info!(place = self.place, "connected for publishing");
        let _open = METERS.publishing_connection();
        self.table.send_modify(|table| table.live[self.place] = Some(Arc::clone(&live)));
        let trouble = format!("the connection was lost: {}", live.until_lost().await);
        self.table.send_modify(|table| {
            table.live[self.place] = None;
            table.lost_at = Instant::now();
        });
        // In a task of its own, since a broker that is gone would be waited for.
        tokio::spawn(async move { live.close().await });
        if began.elapsed() >= GOOD_CONNECTION {
            delays.reset();
        }
        trouble
    }
}

/// Makes connections with deadpool-lapin's manager, the topology asserted.
#[derive(Debug)]
pub(crate) struct Connector {
    settings: BrokerSettings,
    topology: Topology,
    name: String,
    waiting_max: usize,
}

impl Connector {
    /// For connections on which at most so many callers wait for a channel at once.
    pub(crate) fn new(
        settings: &BrokerSettings,
        topology: Topology,
        name: &str,
        waiting_max: usize,
    ) -> Result<Self, ConnectError> {
        // Wrong settings are told at once; each connection asks for the address again.
        settings.address()?;
        let (settings, name) = (settings.clone(), format!("{name} publishing"));
        Ok(Self { settings, topology, name, waiting_max })
    }

    /// Makes one connection, in bounded time. One that is given up half-way ends when the broker answers it, or its socket
    /// fails.
    pub(crate) async fn connect(&self) -> Result<Arc<LiveConnection>, ConnectError> {
        let manager = self.manager()?;
        let connecting = timeout(CONNECT_TIMEOUT, manager.create()).await;
        let connection = connecting.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Connect)?;
        let asserting =
            timeout(CONNECT_TIMEOUT, self.topology.assert(&connection, self.settings.declare)).await;
        let channel = asserting.map_err(|_| ConnectError::Timeout)??;
        Ok(LiveConnection::new(connection, channel, self.waiting_max))
    }

    /// With the address as it is now: a password in a file may have been changed.
    fn manager(&self) -> Result<deadpool_lapin::Manager, ConnectError> {
        let runtime = lapin::runtime::default_runtime().map_err(ConnectError::Connect)?;
        let name = self.name.clone();
        let address = with_frame_max(&self.settings.address()?);
        Ok(deadpool_lapin::Manager::new(address, move || properties(&name), runtime))
    }

    /// Connects, as soon as there is a broker.
    pub(crate) async fn connect_patiently(&self) -> Result<Arc<LiveConnection>, ConnectError> {
        let mut delays = Delays::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            match self.connect().await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(error = chain(&error), "waiting for RabbitMQ");
                }
                connected => return connected,
            }
            sleep(delays.next_delay()).await;
        }
    }
}
