//! Who stores what is written behind replies: not each of many requests, and always somebody.

use edge_session::store::simulated_kv::Ordered;

use crate::schedules::Stage;

/// A page of many requests costs one task behind its replies, not one for each.
#[test]
fn ten_counts_that_wait_for_the_same_put_leave_one_work_behind() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    assert_eq!(stage.count(&here), Ok(1));
    for number in 2..=11 {
        assert_eq!(stage.count(&here), Ok(number));
        assert_eq!(stage.clock.works(), 1, "after {number}");
    }
    stage.wait(2_000);
    assert_eq!((stage.clock.works(), stage.kv.written()), (0, 2), "the first, and the last");
    assert_eq!(stage.at_rest(), Ok(11));
}

/// The put that is under way has an older write in it.
#[test]
fn a_count_while_a_put_is_under_way_is_stored_as_well() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.counts_twice(&here);
    stage.wait(5_000);
    stage.kv.order("put session:", Ordered::Takes(600));
    assert_eq!(stage.count(&here), Ok(3));
    stage.wait(100);
    assert_eq!(stage.count(&here), Ok(4));
    assert_eq!(stage.at_rest(), Ok(4));
}

/// The runtime does not say that it broke work off.
#[test]
fn where_the_work_behind_a_reply_was_broken_off_a_later_count_has_its_own() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    assert_eq!(stage.count(&here), Ok(1));
    assert_eq!(stage.count(&here), Ok(2));
    assert!(stage.clock.kill(0), "it had a write to store");
    for number in 3..=5 {
        stage.wait(800);
        assert_eq!(stage.count(&here), Ok(number));
    }
    stage.wait(2_000);
    assert_eq!(stage.kv.written(), 2, "by the fifth, for nobody had looked after it for two seconds");
    assert_eq!(stage.at_rest(), Ok(5));
}
