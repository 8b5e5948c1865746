//! Many endpoints in virtual time.

use std::time::Duration;

use kcp_netem::{Jitter, LinkConfig, Loss, Network, Probability, Time};

#[test]
fn each_direction_has_its_own_link() {
    let mut network = Network::new(LinkConfig::new(), 1);
    network.set_link(&"a", &"b", delayed(30));
    network.set_link(&"b", &"a", delayed(5));
    network.push(Time::ZERO, &"a", &"b", vec![1]);
    network.push(Time::ZERO, &"b", &"a", vec![2]);
    network.push(Time::ZERO, &"a", &"c", vec![3]);
    let arrivals: Vec<_> = drain(&mut network)
        .into_iter()
        .map(|d| (d.at.as_micros() / 1000, d.to, d.datagram))
        .collect();
    assert_eq!(
        arrivals,
        [(0, "c", vec![3]), (5, "a", vec![2]), (30, "b", vec![1])]
    );
    assert_eq!(network.link_stats(&"a", &"b").delivered, 1);
    assert_eq!(network.link_stats(&"c", &"a").offered, 0);
    assert_eq!(
        (network.stats().offered, network.stats().delivered_bytes),
        (3, 3)
    );
}

#[test]
fn equal_times_come_out_in_the_order_of_pushing() {
    let mut network = Network::new(delayed(10), 1);
    for i in 0..100u8 {
        network.push(Time::ZERO, &(i % 10), &(10 + i % 7), vec![i]);
    }
    let order: Vec<_> = drain(&mut network)
        .into_iter()
        .map(|d| d.datagram[0])
        .collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
}

#[test]
fn fates_do_not_depend_on_who_spoke_first() {
    let lossy = LinkConfig::new().loss(Loss::Bernoulli(Probability::percent(30)));
    let survivors = |first: u16, second: u16| {
        let mut network = Network::new(lossy.jitter(Jitter::Free(Duration::from_millis(5))), 6);
        for from in [first, second] {
            for i in 0..50 {
                network.push(Time::ZERO, &from, &99, vec![i]);
            }
        }
        let mut seen: Vec<_> = drain(&mut network)
            .into_iter()
            .map(|d| (d.from, d.at, d.datagram))
            .collect();
        seen.sort();
        seen
    };
    assert_eq!(survivors(1, 2), survivors(2, 1));
    // And two senders do not share their luck.
    let seen = survivors(1, 2);
    let of = |from| {
        seen.iter()
            .filter(|s| s.0 == from)
            .map(|s| s.2[0])
            .collect::<Vec<_>>()
    };
    assert_ne!(of(1), of(2));
}

#[test]
fn a_rebound_endpoint_is_seen_elsewhere() {
    let mut network = Network::new(delayed(10), 1);
    network.push(Time::ZERO, &"server", &"client", b"under way".to_vec());
    network.rebind(&"client", "nat");
    // Lost: sent to the old address, before and after.
    network.push(Time::ZERO, &"server", &"client", b"old".to_vec());
    network.push(Time::ZERO, &"client", &"server", b"hello".to_vec());
    network.push(Time::ZERO, &"server", &"nat", b"answer".to_vec());
    let seen: Vec<_> = drain(&mut network)
        .into_iter()
        .map(|d| (d.from, d.to, d.datagram))
        .collect();
    let expected = [
        ("nat", "server", b"hello".to_vec()),
        ("server", "client", b"answer".to_vec()),
    ];
    assert_eq!(seen, expected);
    assert_eq!(network.unreachable(), 2);

    network.rebind(&"client", "nat2");
    network.push(ms(20), &"server", &"nat", vec![1]);
    assert_eq!(network.unreachable(), 3);
    network.rebind(&"client", "client");
    network.push(ms(20), &"server", &"client", vec![2]);
    network.push(ms(20), &"client", &"server", vec![3]);
    let seen: Vec<_> = drain(&mut network)
        .into_iter()
        .map(|d| (d.from, d.datagram))
        .collect();
    assert_eq!(seen, [("server", vec![2]), ("client", vec![3])]);
}

#[test]
fn partitions_cut_one_pair_both_ways() {
    let mut network = Network::new(LinkConfig::new(), 1);
    network.set_partitioned(&1, &2, true);
    network.black_out(&1, &3, ms(10), ms(20));
    for (from, to) in [(1, 2), (2, 1), (1, 3), (3, 1)] {
        network.push(ms(15), &from, &to, vec![0]);
    }
    assert_eq!((network.held(), network.stats().dropped_partition), (0, 4));
    network.set_partitioned(&1, &2, false);
    for (from, to) in [(1, 2), (2, 1), (1, 3), (3, 1)] {
        network.push(ms(20), &from, &to, vec![0]);
    }
    assert_eq!(drain(&mut network).len(), 4);
}

#[test]
fn a_new_configuration_reaches_every_link() {
    let mut network = Network::new(LinkConfig::new(), 1);
    network.push(Time::ZERO, &1, &2, vec![0]);
    assert_eq!(drain(&mut network).len(), 1);
    network.set_all(delayed(7));
    network.push(Time::ZERO, &1, &2, vec![0]);
    network.push(Time::ZERO, &3, &4, vec![0]);
    assert!(drain(&mut network).iter().all(|d| d.at == ms(7)));
}

#[test]
fn ten_thousand_endpoints_speak_to_one() {
    let mut network = Network::new(LinkConfig::demo(), 1);
    for round in 0..3 {
        for client in 1..=10_000u32 {
            network.push(ms(round), &client, &0, vec![0; 40]);
        }
    }
    let arrived = drain(&mut network);
    let stats = network.stats();
    assert_eq!(stats.offered, 30_000);
    assert_eq!(arrived.len() as u64, stats.delivered);
    // 1500 expected, deviation 37.7; 6.2 of them (1e-9) are 235.
    assert!(
        (1265..=1735).contains(&stats.dropped_loss),
        "{}",
        stats.dropped_loss
    );
    assert!(arrived.is_sorted_by_key(|d| d.at));
}

fn drain<A: Clone + Eq + std::hash::Hash>(network: &mut Network<A>) -> Vec<kcp_netem::Delivery<A>> {
    let mut out = Vec::new();
    while let Some(now) = network.next_deadline() {
        // One of them may have nobody to go to; then the poll has passed it by.
        out.extend(network.poll(now));
    }
    out
}

fn delayed(millis: u64) -> LinkConfig {
    LinkConfig::new().delay(Duration::from_millis(millis))
}

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}
