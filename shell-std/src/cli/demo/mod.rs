//! `demo`: real nodes on loopback ports, and what a relay does and refuses.

mod actor;
mod flows;
mod scenes;
mod stage;

use super::global::Global;
use super::{Answer, Failure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use stage::Stage;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Start real nodes A, B and C (and later D) on loopback ports, and show what a relay
/// carries and refuses.
///
/// Each node is a process of its own with its own store in a new directory. Takes a few
/// seconds. Exit code 1: something was not as it should be.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh demo")]
pub(super) struct Demo {
    /// Keep the nodes' files and logs in this new directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// What was shown.
#[derive(Debug, Serialize)]
struct Scene {
    title: &'static str,
    shown: bool,
    detail: String,
    took_ms: f64,
}

impl Demo {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let mut stage = Stage::new(self.keep).map_err(Failure)?;
        let mut done = Vec::new();
        for (title, scene) in scenes::ALL {
            let start = Instant::now();
            let (shown, detail) = match scene(&mut stage) {
                Ok(detail) => (true, detail),
                Err(detail) => (false, detail),
            };
            let took_ms = start.elapsed().as_secs_f64() * 1000.0;
            let scene = Scene { title, shown, detail, took_ms };
            if !global.json {
                print(&scene)?;
            }
            done.push(scene);
            if !shown {
                // What follows builds on it.
                break;
            }
        }
        let shown = done.len() == scenes::ALL.len() && done.iter().all(|scene| scene.shown);
        let json = json!({"shown": shown, "scenes": done});
        match shown {
            true => Answer::yes(json, "All of it was as it should be."),
            false => {
                let text = format!("This is not as it should be.\n{}", stage.logs());
                Answer::no(json, text)
            }
        }
    }
}

fn print(scene: &Scene) -> io::Result<()> {
    let mark = if scene.shown { "ok  " } else { "FAIL" };
    let mut out = io::stdout().lock();
    writeln!(out, "{mark} {:>8.1} ms  {}: {}", scene.took_ms, scene.title, scene.detail)?;
    out.flush()
}
