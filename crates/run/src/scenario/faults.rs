//! Reads `[[fault]]`.

use std::time::Duration;

use super::problem::Problem;
use super::rules::PlacedFault;
use super::section::{Choices, Found, Section, Synonyms};
use super::{BackendTarget, FaultKind, FaultPlan};

const FAULT_SYNONYMS: Synonyms = &[
    ("type", "kind"),
    ("toxic", "kind"),
    ("duration", "for"),
    ("start", "at"),
    ("after", "at"),
    ("delay", "latency"),
];

const KINDS: Choices<&str> = Choices {
    words: &[
        ("latency", "latency"),
        ("bandwidth", "bandwidth"),
        ("stall", "stall"),
        ("silence", "silence"),
        ("down", "down"),
        ("reset", "reset"),
        ("terminate-backend", "terminate-backend"),
    ],
    synonyms: &[
        ("reset_peer", "reset"),
        ("timeout", "silence"),
        ("blackhole", "silence"),
        ("partition", "silence"),
        ("disable", "down"),
        ("disconnect", "reset"),
        ("delay", "latency"),
        ("slow", "latency"),
        ("freeze", "stall"),
        ("hang", "stall"),
        ("kill", "terminate-backend"),
        ("kill-backend", "terminate-backend"),
        ("terminate", "terminate-backend"),
    ],
};

/// The keys that only some kinds of fault have.
const KIND_KEYS: &[(&str, &str)] = &[
    ("latency", "latency"),
    ("jitter", "latency"),
    ("rate", "bandwidth"),
    ("commits_in_flight", "reset"),
    ("target", "terminate-backend"),
];

/// Reads one fault, as far as it makes sense.
pub(super) fn fault(mut section: Section<'_>) -> Option<PlacedFault> {
    section.synonyms(FAULT_SYNONYMS);
    let name = section.string("name");
    if let Some(name) = &name {
        section.retitle(format!("fault {:?}", name.value));
    }
    section.require("name", "name = \"slow network\"");
    section.require("kind", "kind = \"latency\"");
    section.require("at", "at = \"5s\"");
    let kind = section.word("kind", "kind of fault", &KINDS);
    let at = section.duration("at");
    let lasts = section.positive_duration("for");
    let Some(kind) = kind else {
        // Without its kind nobody can say which of these belong here.
        for (key, _) in KIND_KEYS {
            section.has(key);
        }
        section.finish(|_| None);
        return None;
    };
    let parameters = fault_kind(&section, kind.value);
    section.finish(|word| {
        let (_, owner) = KIND_KEYS.iter().find(|(key, _)| *key == word)?;
        Some(format!(
            "`{word}` belongs to faults of kind `{owner}`; this one is `{}`",
            kind.value
        ))
    });
    let lasts = window(&section, kind.value, lasts)?;
    let (name, at) = (name?, at?);
    Some(PlacedFault {
        plan: FaultPlan {
            name: name.value,
            kind: parameters?,
            at: at.value,
            duration: lasts.as_ref().map(|f| f.value),
        },
        name_span: name.span,
        at_span: at.span,
        for_span: lasts.map(|f| f.span),
        commits_span: section.span_of("commits_in_flight"),
    })
}

/// Returns how long a fault of this kind lasts, if it lasts; none where that is wrong.
fn window(
    section: &Section<'_>,
    kind: &str,
    lasts: Option<Found<Duration>>,
) -> Option<Option<Found<Duration>>> {
    if matches!(kind, "latency" | "bandwidth" | "stall" | "silence" | "down") {
        section.require("for", "for = \"3s\"");
        return lasts.map(Some);
    }
    if let Some(span) = section.span_of("for") {
        section.add(
            Problem::new(
                span,
                format!("a fault of kind `{kind}` happens at one moment"),
                "has no duration",
            )
            .help("remove `for`".to_owned()),
        );
        return None;
    }
    Some(None)
}

const TARGETS: Choices<BackendTarget> = Choices {
    words: &[
        ("in-transaction", BackendTarget::InTransaction),
        ("idle", BackendTarget::Idle),
        ("any", BackendTarget::Any),
    ],
    synonyms: &[
        ("transaction", "in-transaction"),
        ("idle in transaction", "in-transaction"),
        ("active", "in-transaction"),
        ("random", "any"),
    ],
};

fn fault_kind(section: &Section<'_>, word: &str) -> Option<FaultKind> {
    match word {
        "latency" => latency(section),
        "bandwidth" => {
            section.require("rate", "rate = 100");
            let rate_kb_s = section.count("rate", 0)?.value;
            Some(FaultKind::Bandwidth { rate_kb_s })
        }
        "stall" => Some(FaultKind::Bandwidth { rate_kb_s: 0 }),
        "silence" => Some(FaultKind::Silence),
        "down" => Some(FaultKind::Down),
        "reset" => {
            let commits = section.count("commits_in_flight", 0);
            Some(FaultKind::Reset {
                commits_in_flight: commits.map_or(0, |f| f.value),
            })
        }
        _ => {
            let target = section.word("target", "target", &TARGETS);
            Some(FaultKind::TerminateBackend {
                target: target.map_or(BackendTarget::Any, |f| f.value),
            })
        }
    }
}

fn latency(section: &Section<'_>) -> Option<FaultKind> {
    section.require("latency", "latency = \"40ms\"");
    let latency = section.positive_duration("latency");
    let jitter = section.duration("jitter");
    let latency = latency?;
    if let Some(jitter) = &jitter
        && jitter.value > latency.value
    {
        section.add(
            Problem::new(
                jitter.span.clone(),
                "`jitter` is larger than `latency`".to_owned(),
                "would make some answers early",
            )
            .related(latency.span.clone(), "the latency")
            .help("jitter is taken off as often as it is added".to_owned()),
        );
    }
    Some(FaultKind::Latency {
        latency: latency.value,
        jitter: jitter.map_or(Duration::ZERO, |f| f.value),
    })
}
