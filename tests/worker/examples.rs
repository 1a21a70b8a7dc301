//! The examples do what they are there to show.

use std::thread;

use crate::concurrency::counts_in_parallel_are_exact;
use crate::launcher::{Store, Worker};
use crate::visitor::Visitor;

const ADA: &[u8] = b"user=ada&password=lovelace";

on_each_store! {
    /// Whoever knows the id from before the login reads nothing, changes nothing, and cannot cycle into the session.
    fn a_login_leaves_the_old_id_nothing(store: Store) {
        let worker = Worker::example("login", store);
        let mut ada = Visitor::default();
        assert_eq!(ada.get(worker, "").body, "nobody");
        assert_eq!(ada.post_form(worker, "login", b"user=ada&password=wrong").status, 403);
        let no_form = ada.ask_with(worker, "POST", "login", &[("content-type", "application/json")]);
        assert_eq!(no_form.brief(), (400, "a form, please"));
        assert_eq!(ada.cookie, None, "who is not logged in has no session");
        // A session from before, which a thief knows.
        assert_eq!(ada.post_form(worker, "login", ADA).brief(), (200, "welcome"));
        let thief = ada.clone();
        assert_eq!(ada.post_form(worker, "login", ADA).brief(), (200, "welcome"));
        assert_ne!(ada.cookie, thief.cookie);

        assert_eq!(thief.clone().get(worker, "").body, "nobody");
        let mut own = thief.clone();
        assert_eq!(own.post_form(worker, "login", b"user=ada&password=wrong").status, 403);
        assert_eq!(own.cookie, thief.cookie, "and is given no other");
        assert_eq!(own.post_form(worker, "login", ADA).brief(), (200, "welcome"), "who knows the password has their own");
        assert_eq!(own.post_form(worker, "logout", b"").brief(), (200, "goodbye"));
        assert_eq!(ada.get(worker, "").body, "ada", "which is not this one");
        assert_eq!(ada.get(worker, "logout").status, 404, "a link does not log out");
        assert_eq!(ada.clone().post_form(worker, "logout", b"").brief(), (200, "goodbye"));
        assert_eq!(ada.get(worker, "").body, "nobody");
    }

    fn a_login_that_is_sent_twice_at_once_logs_in(store: Store) {
        let worker = Worker::example("login", store);
        let mut ada = Visitor::default();
        ada.post_form(worker, "login", ADA);
        let both: Vec<_> = thread::scope(|scope| {
            let clicks: Vec<_> = (0..2).map(|_| ada.clone()).map(|mut click| scope.spawn(move || {
                assert_eq!(click.post_form(worker, "login", ADA).brief(), (200, "welcome"));
                click
            })).collect();
            clicks.into_iter().map(|click| click.join().unwrap()).collect()
        });
        for mut click in both {
            assert_ne!(click.cookie, ada.cookie);
            assert_eq!(click.get(worker, "").body, "ada");
        }
        assert_eq!(ada.get(worker, "").body, "nobody", "by the old id");
    }

    fn a_router_has_the_sessions_in_its_data(store: Store) {
        let worker = Worker::example("router", store);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.get(worker, "").status, 200);
        assert_eq!(visitor.cookie, None);
        assert_eq!(visitor.count(worker), 1);
        assert_eq!(visitor.get(worker, "add/5").brief(), (200, "6"));
        assert_eq!(visitor.get(worker, "add/many").status, 400);
        assert_eq!(visitor.get(worker, "reset").brief(), (200, ""));
        assert_eq!(visitor.count(worker), 1);
    }
}

on_each_store! {
    fn an_axum_worker_logs_in_counts_and_logs_out_by_post(store: Store) {
        let worker = Worker::example("axum", store);
        let mut ada = Visitor::default();
        assert_eq!(ada.get(worker, "").brief(), (200, "nobody"));
        assert_eq!(ada.count(worker), 1);
        let before = ada.clone();
        assert_eq!(ada.post_form(worker, "login", b"user=ada&password=wrong").status, 403);
        assert_eq!(ada.post_form(worker, "login", ADA).brief(), (200, "welcome"));
        assert_ne!(ada.cookie, before.cookie);
        assert_eq!(before.clone().get(worker, "").body, "nobody", "the old id has nothing");
        assert_eq!((ada.get(worker, "").body, ada.count(worker)), ("ada".to_owned(), 2));
        assert_eq!(ada.get(worker, "logout").status, 405);
        assert_eq!(ada.post_form(worker, "logout", b"").brief(), (200, "goodbye"));
        assert_eq!(ada.get(worker, "").body, "nobody");
    }

    fn a_route_of_an_axum_worker_that_asks_for_no_session_makes_no_store_call(store: Store) {
        let worker = &Worker::example_over_faulty_stores("axum", store);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(worker), 1);
        worker.order(&[]);
        assert_eq!(visitor.get(worker, "about").status, 200);
        assert_eq!(worker.calls(), Vec::<String>::new());
        assert_eq!(visitor.count(worker), 2);
        assert_ne!(worker.calls(), Vec::<String>::new());
    }

    /// 50 logouts, each beside four counts.
    fn a_logout_from_an_axum_worker_is_final(store: Store) {
        let worker = Worker::example("axum", store);
        for _ in 0..50 {
            let mut visitor = Visitor::default();
            visitor.count(worker);
            thread::scope(|scope| {
                for _ in 0..4 {
                    let mut client = visitor.clone();
                    scope.spawn(move || assert!([200, 503].contains(&client.get(worker, "count").status)));
                }
                let mut leaving = visitor.clone();
                scope.spawn(move || assert_eq!(leaving.post_form(worker, "logout", b"").brief(), (200, "goodbye")));
            });
            assert_eq!(visitor.count(worker), 1, "with the old cookie it is a new session");
        }
    }
}

on_d1_and_object! {
    fn an_axum_worker_counts_exactly(store: Store) {
        counts_in_parallel_are_exact(Worker::example("axum", store));
    }

    /// A large body is not kept for a second run: a lost race is said, and what is said to be done is done once.
    fn an_axum_worker_answers_a_lost_race_with_a_large_body_503_and_loses_nothing(store: Store) {
        let worker = Worker::example("axum", store);
        let mut visitor = Visitor::default();
        visitor.count(worker);
        let body = vec![b'x'; 100_000];
        let (mut done, mut refused) = (0, 0);
        // Until there was a race.
        for _ in 0..20 {
            let replies: Vec<_> = thread::scope(|scope| {
                let uploads: Vec<_> = (0..10)
                    .map(|_| visitor.clone())
                    .map(|mut client| {
                        let body = &body;
                        scope.spawn(move || client.ask(worker, "POST", "upload", body))
                    })
                    .collect();
                uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
            });
            for reply in replies {
                match reply.status {
                    200 => {
                        assert_eq!(reply.body, "100000 bytes");
                        done += 1;
                    }
                    _ => {
                        reply.is_unavailable();
                        refused += 1;
                    }
                }
            }
            if refused > 0 {
                break;
            }
        }
        assert!(refused > 0, "no race was lost");
        assert_eq!(visitor.count(worker), done + 2, "each upload that was answered, and no other");
    }
}
