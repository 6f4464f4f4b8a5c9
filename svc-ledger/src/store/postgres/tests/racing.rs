//! Who leads, when several would.

use std::time::{Duration, Instant};

use mesh::Drain;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use super::{Fixture, PATIENCE, frame};
use crate::store::{
    ports::Journal as _,
    postgres::{
        Postgres, Role,
        leadership::{Leadership, Member, look, take},
        session::Purpose,
    },
};

struct Replica {
    postgres: Postgres,
    leave: oneshot::Sender<()>,
    keeping: JoinHandle<()>,
}

impl Replica {
    fn start((postgres, leadership): (Postgres, Leadership)) -> Self {
        let (leave, left) = oneshot::channel::<()>();
        let keeping = tokio::spawn(leadership.keep(Drain::new(), async {
            // Never, when the sender is kept.
            let _ = left.await;
        }));
        Self { postgres, leave, keeping }
    }

    async fn until(&self, wanted: impl Fn(&Role) -> bool) -> Role {
        let mut role = self.postgres.role();
        let role = timeout(PATIENCE, role.wait_for(|role| wanted(role))).await.expect("the role comes");
        role.unwrap().clone()
    }

    async fn until_leading(&self) -> u64 {
        match self.until(|role| matches!(role, Role::Leading { .. })).await {
            Role::Leading { epoch } => epoch,
            Role::Following { .. } => unreachable!(),
        }
    }

    /// As when its machine stops.
    async fn kill(self) {
        self.keeping.abort();
        let _ = self.keeping.await;
    }

    async fn go(self) {
        self.leave.send(()).unwrap();
        timeout(PATIENCE, self.keeping).await.unwrap().unwrap();
    }
}

fn follows(name: &str) -> impl Fn(&Role) -> bool + '_ {
    move |role| matches!(role, Role::Following { leader, .. } if leader == name)
}

#[tokio::test]
async fn of_those_who_race_for_an_epoch_one_has_it() {
    const ROUNDS: u64 = 40;
    let fixture = Fixture::new().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(fixture.server().connect(Purpose::Lead).await.unwrap());
    }
    for round in 0..ROUNDS {
        fixture.end_lease().await;
        let server = fixture.server();
        let race = clients.iter().enumerate().map(|(index, client)| {
            let member = Member { name: format!("replica-{index}"), address: String::new() };
            let server = &server;
            async move { (member.name.clone(), take(client, server, &member, round).await.unwrap()) }
        });
        let [a, b, c, d] = race.collect::<Vec<_>>().try_into().unwrap_or_else(|_| unreachable!());
        let (a, b, c, d) = tokio::join!(a, b, c, d);
        let winners: Vec<_> = [a, b, c, d].into_iter().filter(|(_, epoch)| epoch.is_some()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let seen = look(&clients[0]).await.unwrap();
        assert_eq!((&seen.leader, Some(seen.epoch)), (&winners[0].0, winners[0].1));
        assert_eq!(seen.epoch, round + 1);
        assert!(!seen.left.is_zero() && !seen.released);
    }
}

#[tokio::test]
async fn a_leader_that_is_killed_is_replaced_when_its_lease_ends_and_not_before() {
    let fixture = Fixture::new().await;
    let first = Replica::start(fixture.open("first").await);
    let epoch = first.until_leading().await;
    let second = Replica::start(fixture.open("second").await);
    let role = second.until(follows("first")).await;
    assert_eq!(role, Role::Following { leader: "first".to_owned(), address: "first.test:1".to_owned() });
    assert_eq!(second.postgres.lease().epoch(), None);

    let mut journal = first.postgres.journal(epoch).await.unwrap();
    journal.append(&[frame(1)]).await.unwrap();
    let lease = first.postgres.lease();
    // It is renewed for as long as the leader is there.
    let renewed_at = Instant::now();
    while renewed_at.elapsed() < Duration::from_millis(fixture.config.lease_ms + 500) {
        assert_eq!(lease.epoch(), Some(epoch));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.kill().await;
    let next = second.until_leading().await;
    assert_eq!(next, epoch + 1);
    assert_eq!(lease.epoch(), None, "the first one's lease has ended by its own clock");
    assert_eq!(second.postgres.lease().epoch(), Some(next));
    assert_eq!(second.postgres.head().await.unwrap(), 1);
    let frames = second.postgres.frames_after(0).await.unwrap();
    assert_eq!(frames, [frame(1)]);
    second.go().await;
}

#[tokio::test]
async fn a_leader_that_leaves_is_replaced_at_once() {
    let fixture = Fixture::new().await;
    // A lease so long that nobody would wait for its end.
    let mut fixture = fixture;
    fixture.config.lease_ms = 20_000;
    let first = Replica::start(fixture.open("first").await);
    let epoch = first.until_leading().await;
    let second = Replica::start(fixture.open("second").await);
    second.until(follows("first")).await;
    let (lease, role) = (first.postgres.lease(), first.postgres.role());
    let left_at = Instant::now();
    first.go().await;
    assert_eq!(lease.epoch(), None);
    assert_eq!(*role.borrow(), Role::Following { leader: String::new(), address: String::new() });
    assert_eq!(second.until_leading().await, epoch + 1);
    assert!(left_at.elapsed() < Duration::from_secs(10), "{:?}", left_at.elapsed());
    second.go().await;
    // A third finds the place free.
    let third = Replica::start(fixture.open("third").await);
    assert_eq!(third.until_leading().await, epoch + 2);
    third.go().await;
}

#[tokio::test]
async fn a_leader_that_is_replaced_is_told() {
    let fixture = Fixture::new().await;
    let first = Replica::start(fixture.open("first").await);
    let epoch = first.until_leading().await;
    // Somebody takes the place by force.
    fixture.run("UPDATE leadership SET epoch = epoch + 1, leader = 'forced', lease_until = clock_timestamp() + interval '1 hour'").await;
    first.until(follows("forced")).await;
    assert_eq!(first.postgres.lease().epoch(), None);
    assert!(first.postgres.journal(epoch).await.unwrap().append(&[frame(1)]).await.is_err());
    first.go().await;
}

#[tokio::test]
async fn a_leader_that_cannot_reach_the_server_stops_when_its_lease_ends() {
    let fixture = Fixture::new().await;
    let first = Replica::start(fixture.open("first").await);
    first.until_leading().await;
    // Its renewals wait for a lock until they are given up.
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.execute("SELECT FROM leadership FOR UPDATE", &[]).await.unwrap();
    first.until(|role| matches!(role, Role::Following { leader, .. } if leader.is_empty())).await;
    assert_eq!(first.postgres.lease().epoch(), None);
    hold.rollback().await.unwrap();
    first.until_leading().await;
    first.go().await;
}
