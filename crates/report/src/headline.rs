//! What a run came to in words: the one sentence, and the phrases that all renderings share.

use poolproof_oracle::{
    CommitInDoubt, DoubtCause, Guarantee, GuaranteeResult, GuaranteeStatus, Verdict,
};

use crate::units::{count, counted, duration, one_line, shorten};
use crate::{CutShort, FaultReport, ObjectiveResult, Record};

/// Names inside a sentence.
const NAME_MAX: usize = 40;

/// A fault that came later than planned by less than this came at its time.
const OFF_PLAN_US: u64 = 100_000;

/// A sign and a word for a status; both are always shown, so colour only repeats them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    /// Not judged: neither good nor bad.
    Open,
}

/// How a status is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) sign: &'static str,
    pub(crate) word: &'static str,
    pub(crate) tone: Tone,
}

pub(crate) fn status_mark(status: &GuaranteeStatus) -> Mark {
    match status {
        GuaranteeStatus::Held => mark("✓", "held", Tone::Good),
        GuaranteeStatus::Violated => mark("✗", "violated", Tone::Bad),
        GuaranteeStatus::Void(_) => mark("○", "void", Tone::Open),
        GuaranteeStatus::NotChecked(_) => mark("–", "not checked", Tone::Open),
        GuaranteeStatus::NothingToCheck(_) => mark("·", "nothing to check", Tone::Open),
    }
}

/// What a run came to, in the words of its exit code.
pub(crate) fn verdict_mark(record: &Record) -> Mark {
    match (record.run.cut_short, record.verdict) {
        (_, Verdict::Fail) => mark("✗", "FAIL", Tone::Bad),
        (Some(CutShort::Interrupted), _) => mark("!", "INTERRUPTED", Tone::Open),
        (Some(CutShort::ServerLost), _) => mark("!", "SERVER LOST", Tone::Open),
        (None, Verdict::Pass) => mark("✓", "PASS", Tone::Good),
        (None, Verdict::Inconclusive) => mark("?", "INCONCLUSIVE", Tone::Open),
        (None, Verdict::Invalid) => mark("!", "INVALID", Tone::Open),
    }
}

pub(crate) fn fault_mark(fault: &FaultReport) -> Mark {
    if fault.event.effect.seen {
        mark("✓", "seen", Tone::Good)
    } else {
        mark("✗", "not seen", Tone::Bad)
    }
}

fn mark(sign: &'static str, word: &'static str, tone: Tone) -> Mark {
    Mark { sign, word, tone }
}

/// The reason that a status carries, if it carries one.
pub(crate) fn reason(status: &GuaranteeStatus) -> Option<&str> {
    match status {
        GuaranteeStatus::Held | GuaranteeStatus::Violated => None,
        GuaranteeStatus::Void(reason)
        | GuaranteeStatus::NotChecked(reason)
        | GuaranteeStatus::NothingToCheck(reason) => Some(reason),
    }
}

pub(crate) fn violated(record: &Record) -> impl Iterator<Item = &GuaranteeResult> {
    record
        .guarantees
        .iter()
        .filter(|g| g.status == GuaranteeStatus::Violated)
}

fn missed(record: &Record) -> impl Iterator<Item = &ObjectiveResult> {
    record
        .objectives
        .iter()
        .filter(|o| o.status == GuaranteeStatus::Violated)
}

/// What stands in the way of a pass, in a few words.
pub(crate) fn in_short(record: &Record) -> String {
    let broken =
        violated(record).map(|g| format!("{} {}", g.guarantee.code(), g.guarantee.title()));
    let missed = missed(record).map(|o| format!("objective {} missed", one_line(&o.name)));
    let told: Vec<String> = broken.chain(missed).collect();
    if !told.is_empty() {
        return told.join(" · ");
    }
    let reason = record
        .run
        .partial
        .as_ref()
        .or(record.verdict_reasons.first());
    reason.map_or_else(String::new, |reason| one_line(reason))
}

/// The verdict in one sentence that needs no knowledge of pools.
pub(crate) fn sentence(record: &Record) -> String {
    match record.verdict {
        Verdict::Pass => passed(record),
        Verdict::Fail => failed(record),
        Verdict::Inconclusive => inconclusive(record),
        Verdict::Invalid => invalid(record),
    }
}

fn passed(record: &Record) -> String {
    let held = held(record);
    let asked_for = |g: &&GuaranteeResult| !matches!(g.status, GuaranteeStatus::NothingToCheck(_));
    let all = record.guarantees.iter().filter(asked_for).count();
    let kept = match (held.len(), all) {
        (0, _) => return format!("No guarantee was checked {}.", under(record)),
        (n, all) if n == all => format!("kept all {}", counted(as_u64(n), "guarantee")),
        (n, all) => format!(
            "kept the {} that could be checked (of {})",
            counted(as_u64(n), "guarantee"),
            count(as_u64(all))
        ),
    };
    let leaks = [Guarantee::L1, Guarantee::L2, Guarantee::L6];
    let mut claims = Vec::new();
    if leaks.iter().all(|g| held.contains(g)) {
        claims.push("no connection leaked");
    }
    if held.contains(&Guarantee::X) {
        claims.push("no acknowledged commit was lost or applied twice");
    }
    if held.contains(&Guarantee::T) {
        claims.push("nothing waited beyond its deadline");
    }
    let claims = if claims.is_empty() {
        String::new()
    } else {
        format!(": {}", listed(&claims))
    };
    format!(
        "The pool “{}” {kept} {}{claims}.",
        shorten(&one_line(&record.subject.name), NAME_MAX),
        under(record)
    )
}

fn failed(record: &Record) -> String {
    let broken: Vec<&str> = violated(record).map(|g| broke(g.guarantee)).collect();
    let missed: Vec<String> = missed(record)
        .map(|o| shorten(&one_line(&o.name), NAME_MAX))
        .collect();
    let subject = shorten(&one_line(&record.subject.name), NAME_MAX);
    let objectives = match missed.len() {
        0 => String::new(),
        1 => format!("the objective “{}”", missed[0]),
        n => {
            let names: Vec<&str> = missed.iter().map(String::as_str).collect();
            format!("{} ({})", counted(as_u64(n), "objective"), listed(&names))
        }
    };
    let under = under(record);
    match (broken.is_empty(), missed.is_empty()) {
        (true, true) => format!("The pool “{subject}” failed {under}."),
        (true, false) => {
            format!("The pool “{subject}” broke no guarantee, but missed {objectives} {under}.")
        }
        (false, true) => format!(
            "The pool “{subject}” is not safe {under}: it {}.",
            listed(&broken)
        ),
        (false, false) => format!(
            "The pool “{subject}” is not safe {under}: it {}; it also missed {objectives}.",
            listed(&broken)
        ),
    }
}

fn inconclusive(record: &Record) -> String {
    if record.run.cut_short == Some(CutShort::ServerLost) {
        return "No verdict: the server was lost, and no guarantee was found broken before."
            .to_owned();
    }
    let void = |g: &&GuaranteeResult| matches!(g.status, GuaranteeStatus::Void(_));
    let open = record.guarantees.iter().filter(void).count();
    let unjudged = record.objectives.iter();
    let unjudged = unjudged
        .filter(|o| o.status != GuaranteeStatus::Held)
        .count();
    if open == 0 && unjudged > 0 {
        return format!(
            "No verdict: nothing was found broken, but {unjudged} of {} could not be judged.",
            counted(as_u64(record.objectives.len()), "objective")
        );
    }
    if open == 0 {
        return "No verdict: what was to be judged could not be.".to_owned();
    }
    format!(
        "No verdict: nothing was found broken, but {} of {} could not be judged.",
        open,
        counted(as_u64(record.guarantees.len()), "guarantee")
    )
}

fn invalid(record: &Record) -> String {
    let unseen = record
        .faults
        .iter()
        .filter(|f| !f.event.effect.seen)
        .count();
    if unseen == 0 && !record.performance_valid {
        return format!(
            "This run says nothing about performance: the load generator could not keep up. {}",
            safety(record)
        );
    }
    let because = match unseen {
        0 => "what it measured cannot be trusted".to_owned(),
        n => format!("{} had no visible effect", counted(as_u64(n), "fault")),
    };
    match violated(record).count() {
        0 => format!("This run proves nothing: {because}."),
        n => format!(
            "This run proves no safety: {because}. What broke all the same: {}.",
            counted(as_u64(n), "guarantee")
        ),
    }
}

/// How the guarantees came out, for a run whose performance cannot be judged.
fn safety(record: &Record) -> String {
    let all = counted(as_u64(record.guarantees.len()), "guarantee");
    match violated(record).count() {
        0 => format!("Of {all}, {} held and none broke.", held(record).len()),
        n => format!("Of {all}, {n} broke."),
    }
}

/// What the pool had to stand.
fn under(record: &Record) -> String {
    let ops = counted(record.outcomes.offered, "operation");
    let seen = record.faults.iter().filter(|f| f.event.effect.seen).count();
    match seen {
        0 => format!("under {ops}"),
        n => format!("under {ops} and {}", counted(as_u64(n), "fault")),
    }
}

fn held(record: &Record) -> Vec<Guarantee> {
    record
        .guarantees
        .iter()
        .filter(|g| g.status == GuaranteeStatus::Held)
        .map(|g| g.guarantee)
        .collect()
}

fn broke(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::L1 => "leaked a connection by its own books",
        Guarantee::L2 => "left a connection or a transaction behind on the server",
        Guarantee::L6 => "did not get its full capacity back",
        Guarantee::C => "lent a connection that was not clean",
        Guarantee::R1 => "applied half of a transfer",
        Guarantee::R2 => "applied half of a write set",
        Guarantee::X => "lost an acknowledged commit or applied one twice",
        Guarantee::T => "let a call wait beyond its deadline",
    }
}

/// Joins up to three phrases as prose; what goes beyond is counted.
fn listed(phrases: &[&str]) -> String {
    match phrases {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [one, two, three] => format!("{one}, {two} and {three}"),
        [one, two, three, rest @ ..] => {
            format!("{one}, {two}, {three}, and {} more", rest.len())
        }
    }
}

/// What was seen of a fault: `15 links reset`, or why nothing was.
pub(crate) fn effect(fault: &FaultReport) -> String {
    let effect = &fault.event.effect;
    if effect.seen {
        return format!("{} {}", count(effect.count), one_line(&effect.unit));
    }
    match &effect.problem {
        Some(problem) => one_line(problem),
        None => "no effect was seen".to_owned(),
    }
}

/// How long the pool took to be well again after a fault.
pub(crate) fn recovery(fault: &FaultReport) -> String {
    match fault.recovery_us {
        _ if !fault.event.effect.seen => "–".to_owned(),
        None => "not within the run".to_owned(),
        Some(0) => "at once".to_owned(),
        Some(us) => duration(us),
    }
}

/// How far the generator lagged and what does not count for that: an objective that was met does,
/// since lag only makes times longer.
pub(crate) fn lagged(record: &Record) -> String {
    let lag = duration(record.latencies.lag.p99_us);
    let limit = match record.lag_limit_us {
        0 => String::new(),
        us => format!(", limit {}", duration(us)),
    };
    format!("lag p99 {lag}{limit}: latencies, rates and missed objectives do not count")
}

/// Within which faults this one was to come and did not: `outside slow network`.
pub(crate) fn outside(fault: &FaultReport) -> Option<String> {
    let names = fault.event.outside();
    (!names.is_empty()).then(|| format!("outside {}", one_line(&names.join(", "))))
}

/// What of a fault's time was not as planned: `1.2 s late, outside slow network`.
pub(crate) fn off_plan(fault: &FaultReport) -> Option<String> {
    let event = &fault.event;
    let planned = event.planned.as_ref()?;
    let late = event.start_us.saturating_sub(planned.start_us);
    let longer = event.end_us.saturating_sub(planned.end_us);
    let lasts = event.end_us > event.start_us;
    let told: Vec<String> = [
        (late >= OFF_PLAN_US).then(|| format!("{} late", duration(late))),
        (lasts && longer >= OFF_PLAN_US).then(|| format!("ended {} late", duration(longer))),
        outside(fault),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// What no verdict says: `3 of 4 faults without recovery within the load`. Guarantees may hold in a
/// run that never served well again. A fault without effect leaves nothing to recover from.
pub(crate) fn without_recovery(record: &Record) -> Option<String> {
    let (mut seen, mut open) = (0, 0);
    for fault in record.faults.iter().filter(|f| f.event.effect.seen) {
        seen += 1;
        open += u64::from(fault.recovery_us.is_none());
    }
    let of = counted(seen, "fault");
    (open > 0).then(|| format!("{} of {of} without recovery within the load", count(open)))
}

/// How the commits in doubt were resolved, those that faults left in doubt apart from those whose
/// caller was cancelled: `3 by faults (2 applied, 1 not), 13 by cancellation (13 applied)`.
pub(crate) fn doubts(record: &Record) -> Option<String> {
    let told: Vec<String> = [
        (Some(DoubtCause::Fault), "by faults"),
        (Some(DoubtCause::Cancelled), "by cancellation"),
        (Some(DoubtCause::CutShort), "by the end of the run"),
        (None, "by an unknown cause"),
    ]
    .into_iter()
    .filter_map(|(cause, words)| {
        let of_cause = || record.commits_in_doubt.iter().filter(|c| c.cause == cause);
        let all = of_cause().count();
        let resolved = resolved(of_cause());
        (all > 0).then(|| format!("{} {words} ({resolved})", count(as_u64(all))))
    })
    .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn resolved<'a>(doubts: impl Iterator<Item = &'a CommitInDoubt>) -> String {
    let (mut applied, mut not, mut unresolved) = (0, 0, 0);
    for doubt in doubts {
        match doubt.applied {
            Some(true) => applied += 1,
            Some(false) => not += 1,
            None => unresolved += 1,
        }
    }
    let word = if applied > 0 { "not" } else { "not applied" };
    let told: Vec<String> = [
        (applied, "applied"),
        (not, word),
        (unresolved, "unresolved"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, word)| format!("{} {word}", count(n)))
    .collect();
    told.join(", ")
}

/// Why a commit was in doubt.
pub(crate) fn doubt_cause(doubt: &CommitInDoubt) -> &'static str {
    match doubt.cause {
        Some(DoubtCause::Fault) => "fault or deadline",
        Some(DoubtCause::Cancelled) => "planned cancellation",
        Some(DoubtCause::CutShort) => "end of the run",
        None => "not told",
    }
}

/// The most connections that the pool may hold; none without a limit.
pub(crate) fn limit(record: &Record) -> Option<u64> {
    let settings = &record.subject.settings;
    let overflow = u64::try_from(settings.max_overflow).ok()?;
    Some(u64::from(settings.pool_size) + overflow)
}

/// `peak 15 of 15`, or why it is not known.
pub(crate) fn connections(record: &Record) -> Option<String> {
    let peak = record.connections.peak?;
    Some(match limit(record) {
        Some(limit) => format!("{} of {}", count(peak), count(limit)),
        None => count(peak),
    })
}

/// The subject's settings as they are written: `pool_size=5 max_overflow=10 …`.
pub(crate) fn settings(record: &Record) -> String {
    let s = &record.subject.settings;
    let pre_ping = if s.pre_ping { " pre_ping=true" } else { "" };
    format!(
        "pool_size={} max_overflow={} pool_timeout={}{pre_ping}",
        s.pool_size,
        s.max_overflow,
        duration(s.pool_timeout_us)
    )
}

pub(crate) fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
