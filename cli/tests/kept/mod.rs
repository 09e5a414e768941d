//! Texts as they were, each in a file of its own: what a user reads changes only on purpose.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The folder `tests/NAME` with the texts, one file each. The variable `UPDATE_NAME` writes them anew.
pub(crate) struct Kept {
    name: &'static str,
}

impl Kept {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Fails where there are other texts than before, or one of them has changed, and names the first line that has.
    pub(crate) fn compare(&self, texts: &BTreeMap<String, String>) {
        let (name, update) = (self.name, format!("UPDATE_{}", self.name.to_uppercase()));
        if std::env::var_os(&update).is_some() {
            self.store(texts);
        }
        let stored = self.stored();
        let names: Vec<_> = texts.keys().collect();
        let again = format!("on purpose? {update}=1 cargo test -p orderfleet --test {name}");
        assert_eq!(stored.keys().collect::<Vec<_>>(), names, "others than before; {again}");
        for (text_name, text) in texts {
            let difference = difference(&stored[text_name], text);
            assert_eq!(difference, None, "first difference in {text_name}, before and now; {again}");
        }
    }

    fn folder(&self) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "tests", self.name].iter().collect()
    }

    fn stored(&self) -> BTreeMap<String, String> {
        let Ok(files) = fs::read_dir(self.folder()) else { return BTreeMap::new() };
        let paths = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "txt"));
        let read = |path: PathBuf| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        };
        paths.map(read).collect()
    }

    fn store(&self, texts: &BTreeMap<String, String>) {
        let folder = self.folder();
        fs::create_dir_all(&folder).unwrap();
        for name in self.stored().keys().filter(|name| !texts.contains_key(*name)) {
            fs::remove_file(folder.join(format!("{name}.txt"))).unwrap();
        }
        for (name, text) in texts {
            fs::write(folder.join(format!("{name}.txt")), text).unwrap();
        }
    }
}

/// The first line in which two texts differ.
fn difference<'a>(before: &'a str, now: &'a str) -> Option<(Option<&'a str>, Option<&'a str>)> {
    let (mut before, mut now) = (before.lines(), now.lines());
    loop {
        let (before, now) = (before.next(), now.next());
        if before != now || before.is_none() {
            return (before != now).then_some((before, now));
        }
    }
}
