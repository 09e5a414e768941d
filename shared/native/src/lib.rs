//! Real RabbitMQ and MongoDB servers as child processes in a folder: for `orderfleet up`, which runs the fleet on
//! one machine, and for tests. Everything listens on 127.0.0.1 only and ends with the process that started it.

mod error;
mod logs;
mod mongo;
mod ports;
mod process;
mod rabbitmq;
mod ready;
mod services;
mod temp;

pub use error::Error;
pub use logs::last_lines;
pub use mongo::{
    Killed, MONGODB_IMAGE_VARIABLE, MemberState, MemberStatus, Mongo, MongoCluster, MongoOptions, MongoRole,
    MongoSet, MongoSetOptions, SHARDS, StepDown,
};
pub use ports::Ports;
pub use process::{Launch, Process, STDERR, Signal};
pub use rabbitmq::{QueueCounts, RABBITMQ_IMAGE_VARIABLE, RabbitMq, RabbitMqOptions};
pub use services::{AMQP_URL_VARIABLE, MONGODB_URI_VARIABLE, Services};
pub use temp::TempFolder;
