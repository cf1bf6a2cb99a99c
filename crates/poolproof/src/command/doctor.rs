//! `poolproof doctor`.

use std::fmt::Write as _;
use std::path::Path;

use poolproof_run::{Finding, FindingState};

use super::CommandError;
use crate::{exit, output};

pub(super) async fn doctor() -> Result<u8, CommandError> {
    let findings = poolproof_run::doctor(Path::new("reports")).await;
    let mut text: String = findings.iter().map(line).collect();
    let can_run = poolproof_run::can_run(&findings);
    text.push_str(if can_run {
        "\nThis machine can run scenarios: try `poolproof demo`.\n"
    } else {
        "\nA private Postgres cannot be started here: see what is missing above.\n"
    });
    output::print(&text).map_err(CommandError::Print)?;
    Ok(if can_run { exit::OK } else { exit::ENVIRONMENT })
}

fn line(finding: &Finding) -> String {
    let state = match finding.state {
        FindingState::Ok => "✓ ok     ",
        FindingState::Absent => "- absent ",
        FindingState::Missing => "✗ missing",
    };
    let mut text = format!("{state}  {:11} {}\n", finding.topic, finding.detail);
    if let Some(advice) = &finding.advice {
        writeln!(text, "{:24}{advice}", "").expect("bug: writing to a String cannot fail");
    }
    text
}
