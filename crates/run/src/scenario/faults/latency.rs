//! What the server sends arrives late.

use std::time::Duration;

use super::{FOR, Fault, FaultKind, Hides, Key, Kind, Problem, Problems, Quantity, Values, Word};

pub(super) const FAULT: Fault = Fault {
    kind: Kind {
        name: Word {
            word: "latency",
            synonyms: &["delay", "slow"],
            doc: "A round trip takes longer: half of the time is added on the way there, half on the \
                  way back.",
        },
        keys: &[
            Key::new(
                "latency",
                Quantity::Duration { zero: false },
                "By how much.",
            )
            .required("latency = \"40ms\"")
            .also(&["delay"]),
            Key::new(
                "jitter",
                Quantity::Duration { zero: true },
                "By how much more or less, at random. At most `latency`.",
            )
            .default("0s"),
            FOR,
        ],
    },
    read,
    hides: Hides::Nothing,
};

fn read(values: &Values, problems: &Problems) -> Option<FaultKind> {
    let latency = values.given::<Duration>("latency")?;
    if let Some(jitter) = values.given::<Duration>("jitter")
        && jitter.value > latency.value
    {
        let message = "`jitter` is larger than `latency`".to_owned();
        problems.add(
            Problem::new(jitter.span, message, "would make some answers early")
                .related(latency.span, "the latency")
                .help("jitter is taken off as often as it is added".to_owned()),
        );
    }
    Some(FaultKind::Latency {
        latency: latency.value,
        jitter: values.get("jitter"),
    })
}
