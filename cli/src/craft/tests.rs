//! What every command of the tree owes its users, also those that are added later.

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};

use super::ENVIRONMENT;
use crate::Cli;

const COLUMNS: usize = 100;

/// Every command with its whole name, the hidden ones too; not clap's own `help`.
fn commands() -> Vec<(String, Command)> {
    let mut root = Cli::command();
    root.build();
    let mut commands = Vec::new();
    collect("orderfleet", &root, &mut commands);
    commands
}

fn collect(name: &str, command: &Command, commands: &mut Vec<(String, Command)>) {
    commands.push((name.to_owned(), command.clone().term_width(COLUMNS)));
    let subcommands = command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help");
    for subcommand in subcommands {
        collect(&format!("{name} {}", subcommand.get_name()), subcommand, commands);
    }
}

fn after_help(command: &Command) -> String {
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    after.map(ToString::to_string).unwrap_or_default()
}

/// The lines that are commands to paste.
fn examples(help: &str) -> Vec<&str> {
    let is_example = |line: &&str| line.starts_with("  ") && calls(line).next().is_some();
    help.lines().filter(is_example).map(str::trim).collect()
}

/// Each call of this program in a line of shell, as words.
fn calls(line: &str) -> impl Iterator<Item = Vec<String>> {
    let parts = words(line);
    let parts: Vec<_> =
        parts.split(|word| ["|", "&&", ";"].contains(&word.as_str())).map(<[_]>::to_vec).collect();
    parts.into_iter().filter_map(|part| {
        let is_program = |word: &String| !word.contains('=');
        let program = part.iter().position(is_program).filter(|at| part[*at] == "orderfleet")?;
        let end =
            part.iter().position(|word| word.starts_with('>') || word.starts_with('<')).unwrap_or(part.len());
        Some(part.get(program..end)?.to_vec())
    })
}

/// Splits as a shell does, as far as examples need it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_word) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (None, '#') if !is_word => break,
            (None, '\'' | '"') => (quote, is_word) = (Some(c), true),
            (Some(open), c) if c == open => quote = None,
            (None, ' ') => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            _ => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

#[test]
fn every_command_says_what_it_does_and_shows_an_example() {
    for (name, command) in commands() {
        assert!(command.get_about().is_some(), "{name} has no description");
        assert!(!examples(&after_help(&command)).is_empty(), "the help of {name} has no example");
    }
}

#[test]
fn no_help_is_wider_than_100_columns_and_no_example_is_broken_in_two() {
    for (name, mut command) in commands() {
        let help = command.render_long_help().to_string();
        let wide = help.lines().find(|line| line.chars().count() > COLUMNS);
        assert_eq!(wide, None, "the help of {name}");
        for example in examples(&after_help(&command)) {
            assert!(help.contains(example), "{name}: too long for a line: {example}");
        }
    }
}

#[test]
fn every_example_is_one_that_this_program_takes() {
    for (name, command) in commands() {
        // What ends in a backslash goes on in the next line.
        let help = after_help(&command).replace("\\\n", "");
        for call in help.lines().flat_map(calls).filter(|call| call.len() > 1) {
            let Err(error) = Cli::try_parse_from(&call) else { continue };
            // An id in an example may be shortened.
            let is_fine = matches!(
                error.kind(),
                ErrorKind::ValueValidation | ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            assert!(is_fine, "the help of {name} shows {call:?}: {error}");
        }
    }
}

#[test]
fn every_variable_of_a_flag_is_in_the_topic_of_variables() {
    for (name, command) in commands() {
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        for variable in variables.map(|variable| variable.to_string_lossy()) {
            assert!(ENVIRONMENT.contains(&*variable), "{name}: {variable}");
        }
    }
}

#[test]
fn a_line_of_shell_is_split_into_words() {
    let line = "  A=b orderfleet x 'y z' --w \"q\" | orderfleet - > file  # why";
    let expected = [vec!["orderfleet", "x", "y z", "--w", "q"], vec!["orderfleet", "-"]];
    assert_eq!(calls(line).collect::<Vec<_>>(), expected);
    assert_eq!(calls("  jq . orderfleet").count(), 0);
}
