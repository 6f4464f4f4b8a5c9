//! The audit on histories that are sound, and on such with one offence planted.

use std::sync::Arc;

use money::{TenantId, Timestamp};

use super::{
    Account, AccountFlags, AccountId, AuditReport, Auditor, Balances, Event, Given, Kind, LedgerCode,
    NewLimit, NewTransfer, OFFENCES_MAX, Reference, ReservationState, TransferCode, TransferFlags as F,
    TransferId, TrialLine, WorkingSet, execute, expire, set_limits,
};

const SECOND: i64 = 1_000_000_000;

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn account_id(bits: u128) -> AccountId {
    AccountId::new(bits).unwrap()
}

fn account(bits: u128, flags: AccountFlags) -> Account {
    Account {
        id: account_id(bits),
        tenant: "acme".parse().unwrap(),
        ledger: "EUR".parse().unwrap(),
        code: "cash".parse().unwrap(),
        flags,
        user_data: 0,
        reference: Reference::default(),
        limit: 0,
        closed: false,
        balances: Balances::default(),
        created_at: at(i64::try_from(bits).unwrap()),
    }
}

fn item(bits: u128, flags: F, amount: i64) -> NewTransfer {
    NewTransfer {
        id: Given::Value(TransferId::new(bits).unwrap()),
        tenant: Given::Value("acme".parse().unwrap()),
        flags,
        has_unknown_flags: false,
        has_timestamp: false,
        debit: Given::Value(account_id(1)),
        credit: Given::Value(account_id(2)),
        amount,
        post_full_amount: false,
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("fee".parse().unwrap()),
        pending: Given::Nothing,
        timeout_s: 0,
        user_data: 0,
        reference: Some(Reference::default()),
    }
}

fn of(pending: u128, item: NewTransfer) -> NewTransfer {
    NewTransfer { pending: Given::Value(TransferId::new(pending).unwrap()), ..item }
}

/// A history and what it leads to.
struct Ledger {
    events: Vec<Event>,
    accounts: Vec<Account>,
    lines: Vec<(TenantId, LedgerCode, TrialLine)>,
    open: Vec<TransferId>,
}

/// The places of events in [`sound`].
const OPENED: usize = 0;
const RESERVED: usize = 3;
const POSTED: usize = 4;
const LAPSED: usize = 6;
const LIMITED: usize = 7;
const SPENT: usize = 8;
const CLOSED: usize = 9;
const VOIDED: usize = 10;
const LEFT_OPEN: usize = 11;

/// Accounts 1, 2 and 3, of which 3 is limited; a reservation posted in part, one that lapsed, a limit and a
/// transfer that uses it, a closing and its void, and a reservation that stays open.
fn sound() -> Ledger {
    let accounts = [
        account(1, AccountFlags::NONE),
        account(2, AccountFlags::HISTORY),
        account(3, AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS),
    ];
    let mut set = WorkingSet::new(at(3));
    let mut events: Vec<Event> = accounts.iter().cloned().map(|a| Event::Opened(Arc::new(a))).collect();
    for account in accounts {
        set.add_account(account);
    }
    let run = |set: &mut WorkingSet, items: &[NewTransfer]| {
        let results = execute(items, at(100), set);
        assert!(results.iter().all(|result| result.code == TransferCode::Created), "{results:?}");
    };
    run(
        &mut set,
        &[
            item(10, F::PENDING, 40),
            of(10, item(11, F::POST_PENDING, 30)),
            NewTransfer { timeout_s: 1, ..item(12, F::PENDING, 9) },
        ],
    );
    assert_eq!(expire(&[TransferId::new(12).unwrap()], at(2 * SECOND), &mut set), 1);
    let limit = NewLimit {
        account: Given::Value(account_id(3)),
        tenant: Given::Value("acme".parse().unwrap()),
        limit: 7,
        expected: None,
    };
    set_limits(&[limit], at(2 * SECOND), &mut set);
    run(
        &mut set,
        &[
            NewTransfer { debit: Given::Value(account_id(3)), ..item(13, F::BALANCING_DEBIT, 20) },
            item(14, F::PENDING.with(F::CLOSING_CREDIT), 0),
            of(14, item(15, F::VOID_PENDING, 0)),
            item(16, F::PENDING, 5),
        ],
    );
    events.extend(set.take_events());
    let mut accounts: Vec<Account> = set.accounts().cloned().collect();
    accounts.sort_by_key(|account| account.created_at);
    let lines = set.trial_lines().map(|(tenant, ledger, line)| (tenant.clone(), ledger, line)).collect();
    Ledger { events, accounts, lines, open: vec![TransferId::new(16).unwrap()] }
}

fn audit(ledger: &Ledger) -> AuditReport {
    let mut auditor = Auditor::new();
    for event in &ledger.events {
        auditor.event(event);
    }
    for account in &ledger.accounts {
        auditor.account(account);
    }
    auditor.trial_balance(ledger.lines.iter().map(|(tenant, ledger, line)| (tenant, *ledger, *line)));
    for id in &ledger.open {
        auditor.reservation(*id, ReservationState::Open);
    }
    auditor.finish()
}

/// Changes the transfer of an event.
fn transfer(ledger: &mut Ledger, place: usize, change: impl FnOnce(&mut super::Transfer)) {
    match &mut ledger.events[place] {
        Event::Made { transfer, .. } | Event::Expired { pending: transfer, .. } => {
            change(Arc::make_mut(transfer));
        }
        other => panic!("{other:?}"),
    }
}

/// Changes what an event says of its debit side.
fn debit_side(ledger: &mut Ledger, place: usize, change: impl FnOnce(&mut super::Side)) {
    match &mut ledger.events[place] {
        Event::Made { debit, .. } | Event::Expired { debit, .. } => change(debit),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sound_ledger_has_no_offence() {
    let report = audit(&sound());
    assert_eq!(report, AuditReport { accounts: 3, transfers: 7, offences: Vec::new() });
}

/// What is planted, and what the first offence then says.
type Case = (&'static str, fn(&mut Ledger));

const CASES: &[Case] = &[
    ("does not follow", |ledger| ledger.events.swap(OPENED, OPENED + 1)),
    ("does not follow", |ledger| {
        let again = ledger.events[SPENT].clone();
        ledger.events.insert(SPENT, again);
    }),
    ("was opened as none can be", |ledger| {
        let mut wrong = account(1, AccountFlags::NONE);
        wrong.limit = 5;
        ledger.events[OPENED] = Event::Opened(Arc::new(wrong));
    }),
    ("was never opened", |ledger| drop(ledger.events.remove(OPENED))),
    ("has the amount -40", |ledger| transfer(ledger, RESERVED, |made| made.amount = -40)),
    ("debits and credits the same account", |ledger| {
        transfer(ledger, RESERVED, |made| made.credit = made.debit);
    }),
    ("which is not what was asked for", |ledger| transfer(ledger, RESERVED, |made| made.amount = 41)),
    ("does not fit the tenant or ledger", |ledger| {
        transfer(ledger, RESERVED, |made| made.ledger = "USD".parse().unwrap());
    }),
    ("which is no open reservation", |ledger| {
        transfer(ledger, POSTED, |made| made.kind = Kind::Post { pending: TransferId::new(99).unwrap() });
    }),
    ("which is no open reservation", |ledger| {
        // Resolved twice.
        transfer(ledger, VOIDED, |made| made.kind = Kind::Void { pending: TransferId::new(10).unwrap() });
    }),
    ("between other accounts", |ledger| transfer(ledger, POSTED, |made| made.debit = account_id(3))),
    ("resolves 41 of the 40", |ledger| {
        transfer(ledger, POSTED, |made| (made.amount, made.requested) = (41, Some(41)));
    }),
    ("after it lapsed", |ledger| {
        transfer(ledger, POSTED + 1, |made| made.kind = Kind::Pending { timeout_s: 1 });
        let late = Event::clone(&ledger.events[LAPSED]);
        let Event::Expired { timestamp, pending, debit, credit } = late else { panic!() };
        let void = super::Transfer {
            id: TransferId::new(98).unwrap(),
            timestamp,
            kind: Kind::Void { pending: pending.id },
            requested: Some(0),
            ..(*pending).clone()
        };
        ledger.events[LAPSED] = Event::Made { transfer: Arc::new(void), debit, credit };
    }),
    ("lapsed before its time", |ledger| {
        transfer(ledger, LAPSED - 1, |made| made.kind = Kind::Pending { timeout_s: 9 });
    }),
    ("lapsed as another than it was", |ledger| transfer(ledger, LAPSED, |made| made.amount = 8)),
    ("which is no open reservation", |ledger| {
        transfer(ledger, LAPSED, |made| made.id = TransferId::new(99).unwrap());
    }),
    ("which it cannot have", |ledger| {
        if let Event::Limited { account, .. } = &mut ledger.events[LIMITED] {
            *account = account_id(1);
        }
    }),
    ("beyond its limit", |ledger| {
        if let Event::Limited { limit, .. } = &mut ledger.events[LIMITED] {
            *limit = 6;
        }
    }),
    ("beyond its limit", |ledger| drop(ledger.events.remove(LIMITED))),
    ("which was closed", |ledger| drop(ledger.events.remove(VOIDED))),
    ("is recorded as leaving", |ledger| debit_side(ledger, SPENT, |side| side.after.debits_posted += 1)),
    ("is recorded as leaving", |ledger| debit_side(ledger, CLOSED, |side| side.closed = true)),
    ("is recorded as leaving", |ledger| debit_side(ledger, SPENT, |side| side.number = at(1))),
    ("is recorded as leaving", |ledger| debit_side(ledger, SPENT, |side| side.has_history = true)),
    ("and replays to Balances", |ledger| ledger.accounts[0].balances.debits_posted += 1),
    ("is stored with the limit 8", |ledger| ledger.accounts[2].limit = 8),
    ("is stored with closed true", |ledger| ledger.accounts[1].closed = true),
    ("is stored as another", |ledger| ledger.accounts[1].flags = AccountFlags::NONE),
    ("is stored twice", |ledger| ledger.accounts.push(ledger.accounts[0].clone())),
    ("and was never opened", |ledger| ledger.accounts.push(account(9, AccountFlags::NONE))),
    ("was opened and is not stored", |ledger| {
        drop(ledger.accounts.pop());
        let line = &mut ledger.lines[0].2;
        (line.accounts, line.debits_posted) = (line.accounts - 1, line.debits_posted - 7);
    }),
    ("the sums of acme in EUR are kept as", |ledger| ledger.lines[0].2.debits_pending += 1),
    ("the sums of acme in EUR are kept as", |ledger| ledger.lines[0].2.accounts += 1),
    ("the sums of acme in USD are kept as", |ledger| {
        ledger.lines.push(("acme".parse().unwrap(), "USD".parse().unwrap(), TrialLine::default()));
    }),
    ("no sums of acme in EUR are kept", |ledger| ledger.lines.clear()),
    ("0 reservations are stored as open, 1 replay", |ledger| ledger.open.clear()),
    ("is stored as Open and replays as resolved", |ledger| ledger.open.push(TransferId::new(10).unwrap())),
    ("0 reservations are stored as open, 1 replay", |ledger| {
        ledger.events.truncate(LEFT_OPEN + 1);
        ledger.open.clear();
    }),
];

#[test]
fn each_planted_offence_is_the_first_that_is_told() {
    let mut missed = Vec::new();
    for (index, (text, plant)) in CASES.iter().enumerate() {
        let mut ledger = sound();
        plant(&mut ledger);
        let first = audit(&ledger).offences.into_iter().next();
        if !first.as_ref().is_some_and(|first| first.contains(text)) {
            missed.push((index, text, first));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Accounts and events agree, and money came of nothing.
#[test]
fn conservation_is_counted_over_what_is_stored() {
    let mut ledger = sound();
    ledger.accounts[0].balances.debits_posted += 5;
    let offences = audit(&ledger).offences;
    assert!(
        offences.last().unwrap().contains("acme, EUR: 42 debits and 37 credits are posted"),
        "{offences:?}"
    );
}

#[test]
fn a_report_is_bounded() {
    let accounts = (1..300).map(|bits| account(bits, AccountFlags::NONE)).collect();
    let ledger = Ledger { events: Vec::new(), accounts, lines: Vec::new(), open: Vec::new() };
    assert_eq!(audit(&ledger).offences.len(), OFFENCES_MAX);
}
