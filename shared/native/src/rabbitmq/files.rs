//! The folder of a RabbitMQ server: settings, ports, environment and the `rabbitmqctl` wrapper.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};

use super::{RabbitMqOptions, program};
use crate::{Error, Ports};

/// A node name need not be unique: nodes find each other through `epmd`, and each server has its own.
const NODE_NAME: &str = "orderfleet@localhost";
pub(super) const CTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
/// At this little free space the broker blocks publishers; its default can exceed what a small machine has.
const DISK_FREE_LIMIT_BYTES: u64 = 50_000_000;

#[derive(Debug)]
pub(super) struct Files {
    pub(super) dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) ctl_script: PathBuf,
    pub(super) amqp_port: u16,
    pub(super) epmd_port: u16,
    pub(super) metrics_port: Option<u16>,
    distribution_port: u16,
}

impl Files {
    /// Makes the folder ready for a start. Settings are written anew each time; data is left alone.
    pub(super) fn write(dir: &Path, options: &RabbitMqOptions) -> Result<Self, Error> {
        let io = |attempt: &str| Error::io(format!("{attempt} {}", dir.display()));
        fs::create_dir_all(dir).map_err(io("make"))?;
        let dir = dir.canonicalize().map_err(io("resolve"))?;
        let mut ports = Ports::open(&dir.join("ports"))?;
        let files = Self {
            log: path::absolute(options.log.clone().unwrap_or_else(|| dir.join("rabbitmq.log")))
                .map_err(io("resolve the log of"))?,
            ctl_script: dir.join("rabbitmqctl"),
            amqp_port: ports.take("amqp")?,
            epmd_port: ports.take("epmd")?,
            metrics_port: if options.metrics { Some(ports.take("metrics")?) } else { None },
            distribution_port: ports.take("distribution")?,
            dir,
        };
        let write = |name: &str, text: &str| fs::write(files.dir.join(name), text).map_err(io("write into"));
        write("advanced.config", &files.settings(options))?;
        let plugins = if options.metrics { "[rabbitmq_prometheus].\n" } else { "[].\n" };
        write("enabled_plugins", plugins)?;
        write("rabbitmq-env.conf", "")?;
        write("rabbitmqctl", &files.ctl_script_text(options.image.is_some()))?;
        fs::set_permissions(&files.ctl_script, fs::Permissions::from_mode(0o755))
            .map_err(io("write into"))?;
        Ok(files)
    }

    /// Erlang terms and no `rabbitmq.conf`, whose translation makes a start 0.7 s slower.
    fn settings(&self, options: &RabbitMqOptions) -> String {
        let confirm_timeout = options.dead_letter_confirm_timeout.map_or_else(String::new, |timeout| {
            format!(",\n  {{dead_letter_worker_publisher_confirm_timeout, {}}}", timeout.as_millis())
        });
        let metrics = self.metrics_port.map_or_else(String::new, |port| {
            format!(
                ",\n{{rabbitmq_prometheus, [\n  \
                   {{tcp_config, [{{ip, \"127.0.0.1\"}}, {{port, {port}}}]}}\n\
                 ]}}"
            )
        });
        format!(
            "[{{rabbit, [\n  \
               {{tcp_listeners, [{{\"127.0.0.1\", {port}}}]}},\n  \
               {{disk_free_limit, {DISK_FREE_LIMIT_BYTES}}}{confirm_timeout}\n\
             ]}}{metrics}].\n",
            port = self.amqp_port,
        )
    }

    /// For the server and its tools alike. Nothing is shared with another RabbitMQ on this machine.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let inside = |name: &str| self.dir.join(name).display().to_string();
        let loopback = "-kernel inet_dist_use_interface {127,0,0,1}".to_owned();
        vec![
            ("HOME", inside("")),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("ERL_EPMD_PORT", self.epmd_port.to_string()),
            ("ERL_CRASH_DUMP", inside("erl_crash.dump")),
            ("RABBITMQ_NODENAME", NODE_NAME.to_owned()),
            ("RABBITMQ_DIST_PORT", self.distribution_port.to_string()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.clone()),
            ("RABBITMQ_CTL_ERL_ARGS", loopback),
            // Port 0 lets each tool take any free one; the default range allows eleven at a time per machine.
            ("RABBITMQ_CTL_DIST_PORT_MIN", "0".to_owned()),
            ("RABBITMQ_CTL_DIST_PORT_MAX", "0".to_owned()),
            ("RABBITMQ_CONF_ENV_FILE", inside("rabbitmq-env.conf")),
            ("RABBITMQ_CONFIG_FILE", inside("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", inside("advanced.config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", inside("data")),
            ("RABBITMQ_LOG_BASE", inside("log")),
            ("RABBITMQ_LOGS", "-".to_owned()),
            // Unbound: threads bound to cores wait for whatever else runs there, and here everything does.
            ("RABBITMQ_SCHEDULER_BIND_TYPE", "u".to_owned()),
            // Makes the start script become the server, so that signals reach the server itself.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
        ]
    }

    fn ctl_script_text(&self, in_container: bool) -> String {
        let mut text =
            "#!/bin/sh\n# rabbitmqctl for the broker in this folder, for example: list_queues\n".to_owned();
        if in_container {
            writeln!(text, "{}", program::ctl_in_container(&self.dir))
                .expect("writing to a string cannot fail");
            return text;
        }
        for (name, value) in self.environment() {
            let quoted = value.replace('\'', r"'\''");
            writeln!(text, "export {name}='{quoted}'").expect("writing to a string cannot fail");
        }
        writeln!(text, "exec {CTL} \"$@\"").expect("writing to a string cannot fail");
        text
    }
}
