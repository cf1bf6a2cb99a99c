//! What holds for every request body of the fault proxy's API: what it says can be shown, and says the
//! same when it is sent again.

use super::body::{self, BodyError, Fields};
use crate::proxy::{ProxySpec, ProxyView};
use crate::toxic::{Toxic, ToxicView};

const KINDS: [&str; 5] = ["latency", "bandwidth", "timeout", "reset_peer", "noop"];

pub(crate) fn check(input: &[u8]) {
    match body::proxy_list(input) {
        Ok(list) => list.iter().for_each(proxy),
        Err(error) => refused(input, &error),
    }
    let fields = match Fields::read(input) {
        Ok(fields) => fields,
        Err(error) => return refused(input, &error),
    };
    match body::proxy_spec(&fields) {
        Ok(spec) => proxy(&spec),
        Err(error) => refused(input, &error),
    }
    if let Err(error) = body::proxy_patch(&fields) {
        refused(input, &error);
    }
    toxic(input, &fields);
    for kind in KINDS {
        let current = Toxic::of_type(kind).unwrap_or_else(|| panic!("{kind} is no type"));
        match body::toxic_patch(&fields, &current) {
            Ok(patch) => {
                let own = current.attributes();
                let known = |name: &String| own.iter().any(|(own, _)| own == name);
                assert!(patch.attributes.keys().all(known), "{patch:?}");
            }
            Err(error) => refused(input, &error),
        }
    }
}

fn proxy(spec: &ProxySpec) {
    let view = ProxyView {
        name: spec.name.clone(),
        listen: spec.listen.clone().unwrap_or_default(),
        upstream: spec.upstream.clone(),
        enabled: spec.enabled,
        toxics: Vec::new(),
    };
    let shown = serde_json::to_vec(&view).unwrap_or_else(|error| panic!("{error}"));
    let fields = Fields::read(&shown).unwrap_or_else(|error| panic!("{error}: {view:?}"));
    let again = body::proxy_spec(&fields).unwrap_or_else(|error| panic!("{error}: {view:?}"));
    let listen = Some(view.listen);
    assert_eq!(
        again,
        ProxySpec {
            listen,
            ..spec.clone()
        }
    );
}

fn toxic(input: &[u8], fields: &Fields) {
    let spec = match body::toxic_spec(fields) {
        Ok(spec) => spec,
        Err(error) => return refused(input, &error),
    };
    let view = ToxicView {
        name: spec.name.clone().unwrap_or_default(),
        toxic: spec.toxic,
        stream: spec.stream,
        toxicity: spec.toxicity,
    };
    let shown = serde_json::to_vec(&view).unwrap_or_else(|error| panic!("{error}"));
    let fields = Fields::read(&shown).unwrap_or_else(|error| panic!("{error}: {view:?}"));
    let again = body::toxic_spec(&fields).unwrap_or_else(|error| panic!("{error}: {view:?}"));
    assert_eq!(
        (again.name.as_ref(), again.toxic, again.stream),
        (Some(&view.name), spec.toxic, spec.stream)
    );
    // What is drawn for a link is decided by this number, so it must be the very same.
    assert_eq!(
        again.toxicity.to_bits(),
        (spec.toxicity + 0.0).to_bits(),
        "{view:?}"
    );
}

fn refused(input: &[u8], error: &BodyError) {
    let shown = error.to_string();
    // What is repeated may be escaped, which makes six bytes of one.
    assert!(
        !shown.is_empty() && shown.len() <= 200 + 6 * input.len(),
        "{shown}"
    );
}
