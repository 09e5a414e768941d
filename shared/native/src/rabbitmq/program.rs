//! Where RabbitMQ comes from: the machine's own installation, or a Docker image with a newer one, whose container uses
//! the machine's network and the server's folder and is otherwise a child process like any other.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::files::{CTL, Files};
use crate::Error;

/// Names a Docker image with RabbitMQ laid out as Debian does; `tools/rabbitmq-4.sh` makes one.
pub const RABBITMQ_IMAGE_VARIABLE: &str = "ORDERFLEET_RABBITMQ_IMAGE";
pub(super) const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Docker writes the id of the container here.
const CONTAINER_ID: &str = "container";
/// Erlang reserves memory for as many ports as it may have file handles, and Docker can allow a billion.
const ERLANG_PORTS_MAX: u32 = 65_536;

/// Fails when there is nothing to run.
pub(super) fn require(image: Option<&str>) -> Result<(), Error> {
    let Some(image) = image else { return require_installed() };
    let inspect = Command::new("docker").args(["image", "inspect", image]).stdin(Stdio::null()).output();
    let reason = match inspect {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("docker cannot be run: {error}"),
    };
    Err(Error::NotFound {
        program: "RabbitMQ's image",
        looked_at: format!("asked docker for {image}: {reason}"),
        way_out: "run tools/rabbitmq-4.sh image, or unset ORDERFLEET_RABBITMQ_IMAGE",
    })
}

fn require_installed() -> Result<(), Error> {
    if Path::new(SERVER).is_file() {
        return Ok(());
    }
    Err(Error::NotFound {
        program: "RabbitMQ",
        looked_at: format!("looked for {SERVER}"),
        way_out: "run tools/setup.sh, or set ORDERFLEET_AMQP_URL to a running one",
    })
}

/// The command that runs another one in a container of `image`, which ends with it and leaves nothing but the files in
/// the server's folder.
pub(super) fn container(image: &str, files: &Files) -> Result<Command, Error> {
    let dir = &files.dir;
    let id = dir.join(CONTAINER_ID);
    // Docker refuses to overwrite it.
    fs::remove_file(&id).or_else(absent_is_fine).map_err(Error::io(format!("remove {}", id.display())))?;
    let owner = fs::metadata(dir).map_err(Error::io(format!("look at {}", dir.display())))?;
    let mut run = Command::new("docker");
    run.args(["run", "--rm", "--interactive", "--network=host", "--log-driver=none"]);
    run.arg(format!("--user={}:{}", owner.uid(), owner.gid()));
    run.arg("--cidfile").arg(&id).arg("--workdir").arg(dir);
    let folders: BTreeSet<&Path> = [Some(dir.as_path()), files.log.parent()].into_iter().flatten().collect();
    for folder in folders {
        let folder = folder.display();
        run.arg("--mount").arg(format!("type=bind,source={folder},target={folder}"));
    }
    for (name, value) in files.environment() {
        run.arg("--env").arg(format!("{name}={value}"));
    }
    run.arg(format!("--env=ERL_MAX_PORTS={ERLANG_PORTS_MAX}")).arg(image);
    Ok(run)
}

/// The last line of a shell script that runs `rabbitmqctl` in the server's container.
pub(super) fn ctl_in_container(dir: &Path) -> String {
    let id = dir.join(CONTAINER_ID).display().to_string().replace('\'', r"'\''");
    format!("exec docker exec \"$(cat '{id}')\" {CTL} \"$@\"")
}

fn absent_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
