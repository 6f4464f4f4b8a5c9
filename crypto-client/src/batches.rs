//! Many questions, one call: how they are packed, and how each gets its own answer. Knows no verb.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mesh::{Call, Fault, Reason, Upstream};
use paymesh_proto::crypto::v1::{
    BatchRequest, Operation, Outcome, Refusal, crypto_service_client::CryptoServiceClient,
    outcome::Result as Answer,
};
use prost::Message as _;

/// The longest that one call may take: a batch serves many, and no single deadline is its own.
const CALL_MAX: Duration = Duration::from_secs(5);
/// The most bytes of operations in one call: with what their envelopes add, the answer stays below 4 MiB too.
const CALL_BYTES_MAX: usize = 3 << 20;
/// How many calls a batch that is too large for one is made of at once.
const PARTS_AT_ONCE: usize = 4;

/// One operation, and on whose behalf.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) call: Call,
    pub(crate) operation: Operation,
}

/// Asks them all, and answers each, in order.
pub(crate) async fn carry_out(
    client: CryptoServiceClient<Upstream>,
    questions: Vec<Question>,
) -> Vec<Result<Answer, Fault>> {
    let mut answers = Vec::with_capacity(questions.len());
    let mut parts = parts(questions).into_iter();
    let mut under_way = VecDeque::new();
    loop {
        while under_way.len() < PARTS_AT_ONCE
            && let Some(part) = parts.next()
        {
            under_way.push_back((part.len(), tokio::spawn(ask(client.clone(), part))));
        }
        let Some((count, asked)) = under_way.pop_front() else { return answers };
        match asked.await {
            Ok(Ok(outcomes)) if outcomes.len() == count => answers.extend(outcomes.into_iter().map(answer)),
            Ok(Err(fault)) => answers.extend((0..count).map(|_| Err(fault.clone()))),
            Ok(Ok(_)) | Err(_) => answers.extend((0..count).map(|_| Err(nonsense()))),
        }
    }
}

/// On behalf of the first caller: with one in flight, its request id and trace go all the way.
async fn ask(
    mut client: CryptoServiceClient<Upstream>,
    questions: Vec<Question>,
) -> Result<Vec<Outcome>, Fault> {
    let now = Instant::now();
    let longest = questions.iter().map(|question| time_left(&question.call, now)).max().unwrap_or(CALL_MAX);
    if longest.is_zero() {
        return Err(Fault::new(Reason::DeadlineExceeded, "The call's time was over before it was sent."));
    }
    let first = questions.first().map(|question| question.call.clone());
    let operations = questions.into_iter().map(|question| question.operation).collect();
    let Some(first) = first else { return Ok(Vec::new()) };
    let mut request = first.request(BatchRequest { operations });
    request.set_timeout(longest);
    let answer = client.batch(request).await.map_err(|status| Fault::from_status(&status))?;
    Ok(answer.into_inner().outcomes)
}

fn time_left(call: &Call, now: Instant) -> Duration {
    call.deadline().map_or(CALL_MAX, |deadline| deadline.saturating_duration_since(now).min(CALL_MAX))
}

/// In order, each part small enough for one call.
fn parts(questions: Vec<Question>) -> Vec<Vec<Question>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for question in questions {
        let more = question.operation.encoded_len();
        if bytes + more > CALL_BYTES_MAX && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += more;
        part.push(question);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

fn answer(outcome: Outcome) -> Result<Answer, Fault> {
    match outcome.result {
        Some(Answer::Refusal(refusal)) => Err(refused(refusal)),
        Some(answer) => Ok(answer),
        None => Err(nonsense()),
    }
}

fn refused(Refusal { reason, message, field, retry_after_s }: Refusal) -> Fault {
    let fault = match Reason::from_name(&reason) {
        Some(Reason::InvalidRequest) if !field.is_empty() => Fault::invalid(field, message),
        Some(reason) => Fault::new(reason, message),
        None => return nonsense(),
    };
    if retry_after_s == 0 { fault } else { fault.retry_after_s(retry_after_s) }
}

/// The service does not keep to its contract.
pub(crate) fn nonsense() -> Fault {
    Fault::new(Reason::Internal, "svc-crypto gave an answer that cannot be understood.")
}

#[cfg(test)]
mod tests {
    use mesh::testing::call_of;
    use paymesh_proto::crypto::v1::{EncryptRequest, operation::Verb};

    use super::*;

    fn question(plaintext_bytes: usize) -> Question {
        let request = EncryptRequest { plaintext: vec![0; plaintext_bytes].into(), ..Default::default() };
        let operation = Operation { verb: Some(Verb::Encrypt(request)), tenant: String::new() };
        Question { call: call_of("acme"), operation }
    }

    fn sizes(questions: &[usize]) -> Vec<usize> {
        parts(questions.iter().map(|bytes| question(*bytes)).collect()).iter().map(Vec::len).collect()
    }

    #[test]
    fn no_call_is_larger_than_the_service_reads() {
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; 1_024]), [1_024]);
        let mebibyte = 1 << 20;
        assert_eq!(sizes(&[mebibyte; 5]), [2, 2, 1], "three have a few bytes more than three mebibytes");
        assert_eq!(sizes(&[5 * mebibyte, 1]), [1, 1], "what is too large goes alone, and is refused alone");
    }

    #[test]
    fn a_refusal_keeps_its_reason_and_field() {
        let refusal = |reason: &str, field: &str| Refusal {
            reason: reason.into(),
            message: "must be shorter".into(),
            field: field.into(),
            retry_after_s: 3,
        };
        let invalid = refused(refusal("INVALID_REQUEST", "aad"));
        assert_eq!(
            (invalid.reason(), invalid.violations()[0].field.as_str()),
            (Reason::InvalidRequest, "aad")
        );
        assert_eq!(refused(refusal("OVERLOADED", "")).retry_after(), Some(3));
        assert_eq!(refused(refusal("DECRYPTION_FAILED", "")).reason(), Reason::DecryptionFailed);
        assert_eq!(refused(refusal("SOMETHING_NEW", "")).reason(), Reason::Internal);
    }
}
