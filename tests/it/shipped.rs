//! The settings files that are shipped are ones that the services take.

use std::path::{Path, PathBuf};

use orderfleet_tests::program;

#[test]
fn every_service_takes_the_settings_that_are_shipped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("compose/orderfleet.toml"), root.join("systemd/orderfleet.toml")];
    find(&root.join("k8s"), &mut files);
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        for service in ["orderfleet-producer", "orderfleet-worker", "orderfleet-query"] {
            let mut command = std::process::Command::new(program(service));
            let done = command.arg("--config").arg(&file).arg("--print-config").output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{service} and {}: {said}", file.display());
        }
    }
}

/// Every `settings.toml` below a folder.
fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else if path.ends_with("settings.toml") {
            files.push(path);
        }
    }
}
