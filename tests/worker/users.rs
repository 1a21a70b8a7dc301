//! A user's sessions, on the real stores: listed, ended, and ended for good against what is under way.

use std::thread;
use std::time::Duration;

use crate::launcher::{Store, Worker};
use crate::visitor::{Reply, Visitor};

fn ask(worker: &Worker, visitor: &mut Visitor, act: &str, user: &str, after: u64) -> Reply {
    visitor.get(worker, &format!("user?act={act}&user={user}&after={after}"))
}

fn signed_in(worker: &Worker, user: &str) -> Visitor {
    let mut visitor = Visitor::default();
    visitor.count(worker);
    assert_eq!(ask(worker, &mut visitor, "sign-in", user, 0).status, 200);
    visitor
}

fn who(worker: &Worker, visitor: &Visitor) -> String {
    let reply = ask(worker, &mut visitor.clone(), "who", "", 0);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

on_d1_and_object! {
    fn a_users_sessions_are_listed_and_ended(store: Store) {
        let worker = Worker::with_routes(store);
        let mut mine = signed_in(&worker, "ada");
        let (other, third, grace) = (signed_in(&worker, "ada"), signed_in(&worker, "ada"), signed_in(&worker, "grace"));
        let listed = ask(&worker, &mut mine, "list", "ada", 0).body;
        assert_eq!(listed.lines().count(), 3, "{listed}");
        let mut labelled = Visitor::default();
        labelled.get(&worker, "user?act=sign-in&user=ada&label=Firefox");
        let listed = ask(&worker, &mut mine, "list", "ada", 0).body;
        let handle = listed.lines().find(|line| line.ends_with(" Firefox")).unwrap().split(' ').next().unwrap();
        let end = format!("user?act=end&handle={handle}&user=");
        assert_eq!(grace.clone().get(&worker, &format!("{end}grace")).body, "false", "another user's is not found");
        assert_eq!(who(&worker, &labelled), "ada");
        assert_eq!(mine.get(&worker, &format!("{end}ada")).body, "true");
        assert_eq!(who(&worker, &labelled), "nobody");
        // A new id stays listed, and is not one of the others.
        ask(&worker, &mut mine, "login", "", 0);
        assert_eq!(ask(&worker, &mut mine, "end-others", "ada", 0).body, "2");
        let all = [&mine, &other, &third, &grace].map(|visitor| who(&worker, visitor));
        assert_eq!(all, ["ada", "nobody", "nobody", "grace"]);
        assert_eq!(ask(&worker, &mut mine, "list", "ada", 0).body.lines().count(), 1);
        ask(&worker, &mut mine, "end-all", "ada", 0);
        assert_eq!(who(&worker, &mine), "nobody");
    }

    /// 50 rounds of the end of all sessions against seven requests and one sign-in under way.
    fn what_began_before_the_end_of_all_is_not_alive_after(store: Store) {
        let worker = Worker::with_routes(store);
        for round in 0..50_u64 {
            let user = &format!("user{round}");
            let (one, other) = (signed_in(&worker, user), signed_in(&worker, user));
            let fresh = Visitor::default();
            let before = [
                (&one, "count", 30), (&one, "login", 50), (&one, "count", 70), (&other, "login", 20),
                (&other, "count", 60), (&other, "login", 80), (&one, "who", 10), (&fresh, "sign-in", 60),
            ];
            let (ended, replies) = thread::scope(|scope| {
                let asked: Vec<_> = before
                    .iter()
                    .map(|(visitor, act, after)| {
                        let (mut visitor, worker) = ((*visitor).clone(), &worker);
                        // The moment at which all end is another one in each round.
                        let after = after + round % 20;
                        scope.spawn(move || {
                            let reply = ask(worker, &mut visitor, act, user, after);
                            (visitor, act, reply)
                        })
                    })
                    .collect();
                thread::sleep(Duration::from_millis(35));
                let ended = ask(&worker, &mut Visitor::default(), "end-all", user, 0);
                (ended, asked.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>())
            });
            assert_eq!(ended.status, 200, "{ended:?}");
            let ended_at: u64 = ended.body.parse().unwrap();
            for visitor in [&one, &other] {
                assert_eq!(who(&worker, visitor), "nobody", "round {round}");
            }
            for (visitor, act, reply) in &replies {
                assert!(matches!(reply.status, 200 | 401 | 503), "{act}: {reply:?}");
                let is_later = **act == "sign-in" && reply.status == 200 && reply.body.parse::<u64>().unwrap() > ended_at;
                let expected = if is_later { user.as_str() } else { "nobody" };
                assert_eq!(who(&worker, visitor), expected, "round {round}, {act}: {reply:?}; all ended at {ended_at}");
            }
        }
    }
}
