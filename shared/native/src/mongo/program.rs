//! Where the programs `mongod` and `mongos` are: on this machine, or in a Docker image, whose container uses the machine's network
//! and the server's folder and is otherwise a child process like any other.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Error;
use crate::process::{Launch, Process};

const MONGOD_VARIABLE: &str = "ORDERFLEET_MONGOD";
const MONGOS_VARIABLE: &str = "ORDERFLEET_MONGOS";
/// Names a Docker image with `mongod` and `mongos` on its PATH, for sharded clusters.
pub const MONGODB_IMAGE_VARIABLE: &str = "ORDERFLEET_MONGODB_IMAGE";
/// Where tools/setup.sh puts the program, in the user's cache folder.
const CACHED: &str = "orderfleet/mongod-6.0.5/mongod";

/// A program, wherever it is.
#[derive(Debug)]
pub(super) enum Program {
    Installed(PathBuf),
    InImage { image: String, name: &'static str },
}

/// What a program is to run on.
pub(super) struct Place<'a> {
    /// Name for messages.
    pub(super) name: &'a str,
    pub(super) dir: &'a Path,
    pub(super) log: &'a Path,
    pub(super) lock: File,
    pub(super) orphan_grace: Duration,
}

impl Program {
    /// `mongod` from an image; without one that named by `ORDERFLEET_MONGOD`, else the one on `PATH`, else the one that tools/setup.sh
    /// fetched.
    pub(super) fn mongod(image: Option<&str>) -> Result<Self, Error> {
        match image {
            Some(image) => Ok(Self::InImage { image: image.to_owned(), name: "mongod" }),
            None => installed_mongod().map(Self::Installed),
        }
    }

    /// `mongos` from an image; without one that named by `ORDERFLEET_MONGOS`, else the one on `PATH`; none where there is none.
    pub(super) fn mongos(image: Option<&str>) -> Result<Option<Self>, Error> {
        let Some(image) = image else { return Ok(installed_mongos()?.map(Self::Installed)) };
        let mut look = Command::new("docker");
        look.args([
            "run",
            "--rm",
            "--network=none",
            "--entrypoint=/usr/bin/env",
            image,
            "/bin/sh",
            "-c",
            "command -v mongos || exit 1",
        ]);
        let looked = look.stdin(Stdio::null()).output().map_err(Error::io("run docker"))?;
        // 125 and above are docker's own: no such image, no daemon.
        match looked.status.code() {
            Some(0) => Ok(Some(Self::InImage { image: image.to_owned(), name: "mongos" })),
            Some(code) if code < 125 => Ok(None),
            _ => Err(Error::NotFound {
                program: "MongoDB's image",
                looked_at: format!(
                    "asked docker for {image}: {}",
                    String::from_utf8_lossy(&looked.stderr).trim()
                ),
                way_out: "pull or build it, or unset ORDERFLEET_MONGODB_IMAGE",
            }),
        }
    }

    /// Starts it with these arguments in a folder.
    pub(super) fn start(&self, arguments: &[String], place: Place<'_>) -> Result<Process, Error> {
        let Place { name, dir, log, lock, orphan_grace } = place;
        let mut command = match self {
            Self::Installed(program) => Command::new(program),
            Self::InImage { name, .. } => Command::new(name),
        };
        command.current_dir(dir).args(arguments);
        let launch = Launch { name, command: &command, log, lock: Some(lock), orphan_grace };
        match self {
            Self::Installed(_) => Process::start(launch),
            Self::InImage { image, .. } => Process::start_in(container(image, dir, log)?, launch),
        }
    }
}

fn container(image: &str, dir: &Path, log: &Path) -> Result<Command, Error> {
    let owner = fs::metadata(dir).map_err(Error::io(format!("look at {}", dir.display())))?;
    let mut run = Command::new("docker");
    run.args([
        "run",
        "--rm",
        "--interactive",
        "--network=host",
        "--log-driver=none",
        "--entrypoint=/usr/bin/env",
    ]);
    run.arg(format!("--user={}:{}", owner.uid(), owner.gid())).arg("--workdir").arg(dir);
    let outside = log.parent().filter(|folder| *folder != dir);
    for folder in [Some(dir), outside].into_iter().flatten() {
        let folder = folder.display();
        run.arg("--mount").arg(format!("type=bind,source={folder},target={folder}"));
    }
    run.arg(image);
    Ok(run)
}

fn installed_mongod() -> Result<PathBuf, Error> {
    if let Some(named) = env::var_os(MONGOD_VARIABLE) {
        return existing(Path::new(&named))
            .ok_or_else(|| not_found(&format!("{MONGOD_VARIABLE} names no file")));
    }
    on_path("mongod").or_else(|| existing(&cache_folder()?.join(CACHED))).ok_or_else(|| {
        not_found(&format!("looked at {MONGOD_VARIABLE}, PATH and the cache folder's {CACHED}"))
    })
}

fn installed_mongos() -> Result<Option<PathBuf>, Error> {
    let Some(named) = env::var_os(MONGOS_VARIABLE).filter(|named| !named.is_empty()) else {
        return Ok(on_path("mongos"));
    };
    existing(Path::new(&named)).map(Some).ok_or_else(|| Error::NotFound {
        program: "mongos",
        looked_at: format!("{MONGOS_VARIABLE} names no file"),
        way_out: "set it to the program, or unset it",
    })
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).find_map(|folder| existing(&folder.join(program)))
}

fn existing(program: &Path) -> Option<PathBuf> {
    program.is_file().then(|| program.to_owned())
}

fn cache_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))
}

fn not_found(looked_at: &str) -> Error {
    Error::NotFound {
        program: "mongod",
        looked_at: looked_at.to_owned(),
        way_out: "run tools/setup.sh, set ORDERFLEET_MONGOD to the program, \
                  or set ORDERFLEET_MONGODB_URI to a running server",
    }
}
