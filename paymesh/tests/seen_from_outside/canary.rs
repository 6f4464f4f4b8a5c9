//! Secrets in every form in which they could stand somewhere.

use base64::{Engine as _, engine::general_purpose};

/// A secret and how it is called when it is found.
pub(crate) struct Canary {
    name: String,
    forms: Vec<(&'static str, String)>,
}

impl Canary {
    /// Raw, in hexadecimal, and in base64 however it is aligned.
    pub(crate) fn new(name: &str, secret: &str) -> Self {
        let bytes = secret.as_bytes();
        let hex = hex(bytes);
        let mut forms =
            vec![("raw", secret.to_owned()), ("hex", hex.clone()), ("upper hex", hex.to_ascii_uppercase())];
        if secret.len() == 16 && secret.bytes().all(|byte| byte.is_ascii_digit()) {
            for separator in [" ", "-"] {
                let groups: Vec<&str> = (0..4).map(|at| &secret[4 * at..4 * at + 4]).collect();
                forms.push(("grouped", groups.join(separator)));
            }
        }
        for before in 0..3 {
            // Whatever stands before and after it decides the characters at the ends; those are left out.
            let mut aligned = vec![0; before];
            aligned.extend_from_slice(bytes);
            let (first, last) = ((8 * before).div_ceil(6), 8 * aligned.len() / 6);
            for encoded in
                [general_purpose::STANDARD.encode(&aligned), general_purpose::URL_SAFE.encode(&aligned)]
            {
                forms.push(("base64", encoded[first..last].to_owned()));
            }
        }
        forms.sort();
        forms.dedup();
        Self { name: name.to_owned(), forms }
    }

    /// In which forms it is there.
    pub(crate) fn found_in(&self, place: &str, text: &str) -> Vec<String> {
        let there = self.forms.iter().filter(|(_, form)| text.contains(form.as_str()));
        there.map(|(form, _)| format!("{} ({form}) in {place}", self.name)).collect()
    }
}

/// Any bytes as a text to search in. All forms are ASCII.
pub(crate) fn searchable(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect()
}

/// Lower case, two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Whether a verification code stands near its name. By itself three or four digits are anywhere.
pub(crate) fn code_found_in(place: &str, text: &str, codes: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("cvc").chain(text.match_indices("CVC")) {
        let near = &text[at..text.len().min(at + 32)];
        for code in codes.iter().filter(|code| near.contains(**code)) {
            found.push(format!("the code {code} in {place}: {near}"));
        }
    }
    found
}

#[test]
fn a_canary_is_found_in_every_form() {
    let secret = "4556737782319047";
    let canary = Canary::new("card", secret);
    for before in ["", "x", "xy", "xyz"] {
        for after in ["", "1", "12"] {
            let text = format!("{before}{secret}{after}");
            let hex = hex(text.as_bytes()).to_ascii_uppercase();
            for form in [
                text.clone(),
                general_purpose::URL_SAFE_NO_PAD.encode(&text),
                general_purpose::STANDARD.encode(&text),
                hex,
            ] {
                assert!(!canary.found_in("", &form).is_empty(), "{form}");
            }
        }
    }
    assert!(canary.found_in("", "4556 7377 8231 9046 4556737782319").is_empty());
    assert!(!canary.found_in("", "4556-7377-8231-9047").is_empty());
    assert_eq!(code_found_in("", r#"{\"cvc\":\"931\"} cvc is 12"#, &["931", "7316"]).len(), 1);
}
