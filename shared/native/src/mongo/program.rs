//! Where the `mongod` program is.

use std::env;
use std::path::{Path, PathBuf};

use crate::Error;

const MONGOD_VARIABLE: &str = "ORDERFLEET_MONGOD";
/// Where tools/setup.sh puts the program, in the user's cache folder.
const CACHED: &str = "orderfleet/mongod-6.0.5/mongod";

/// The program named by `ORDERFLEET_MONGOD`, else the one on `PATH`, else the one that tools/setup.sh fetched.
pub(super) fn find() -> Result<PathBuf, Error> {
    if let Some(named) = env::var_os(MONGOD_VARIABLE) {
        return existing(Path::new(&named))
            .ok_or_else(|| not_found(&format!("{MONGOD_VARIABLE} names no file")));
    }
    let on_path = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .find_map(|folder| existing(&folder.join("mongod")));
    on_path.or_else(|| existing(&cache_folder()?.join(CACHED))).ok_or_else(|| {
        not_found(&format!("looked at {MONGOD_VARIABLE}, PATH and the cache folder's {CACHED}"))
    })
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
