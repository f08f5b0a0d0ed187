//! `completions` and `man`: what packages install beside the program, made of its own help.

use super::{Answer, Cli, Failure};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;
use std::path::PathBuf;

/// Print the completions of a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh completions bash > ~/.local/share/bash-completion/completions/blvm-mesh
  blvm-mesh completions zsh > ~/.zfunc/_blvm-mesh
  blvm-mesh completions fish > ~/.config/fish/completions/blvm-mesh.fish")]
pub(super) struct Completions {
    /// bash, elvish, fish, powershell or zsh.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let mut written = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "blvm-mesh", &mut written);
        let text = String::from_utf8_lossy(&written).into_owned();
        Answer::yes(json!({"completions": text}), text)
    }
}

/// Write a manual page for the program and each of its commands.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh man ~/.local/share/man/man1")]
pub(super) struct Man {
    /// Directory for them; it is made where there is none.
    dir: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let dir = &self.dir;
        let shown = |e: std::io::Error| Failure(format!("{}: {e}", dir.display()));
        std::fs::create_dir_all(dir).map_err(shown)?;
        clap_mangen::generate_to(Cli::command(), dir).map_err(shown)?;
        let mut pages: Vec<String> = std::fs::read_dir(dir)
            .map_err(shown)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("blvm-mesh") && name.ends_with(".1"))
            .collect();
        pages.sort();
        let text = format!("{} pages in {}", pages.len(), dir.display());
        Answer::yes(json!({"dir": dir, "pages": pages}), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let text = Completions { shell }.run().unwrap().text;
            for command in Cli::command().get_subcommands() {
                assert!(text.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn there_is_a_page_for_each_command() {
        let dir = tempfile::tempdir().unwrap();
        let man = Man { dir: dir.path().join("man1") };
        let answer = man.run().unwrap();
        let pages = answer.json["pages"].as_array().unwrap();
        let has = |name: &str| pages.iter().any(|page| *page == name);
        assert!(has("blvm-mesh.1"));
        for command in Cli::command().get_subcommands() {
            assert!(has(&format!("blvm-mesh-{}.1", command.get_name())), "{}", command.get_name());
        }
        let run = std::fs::read_to_string(dir.path().join("man1/blvm-mesh-run.1")).unwrap();
        assert!(run.contains("Run a node until SIGINT or SIGTERM"));
    }
}
