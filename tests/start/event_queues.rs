use tester::config::EventQueue;
use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(execute_checked_refuses_an_event_queue, needs Linux),
    case!(the_other_entry_points_accept_an_event_queue, needs Linux),
    case!(a_foreground_start_accepts_an_event_queue, needs Linux),
];

/// The system may have io_uring switched off.
fn event_queues() -> impl Iterator<Item = (EventQueue, &'static str)> {
    let known = [
        (EventQueue::Epoll, "epoll"),
        (EventQueue::IoUring, "io_uring"),
    ];
    known
        .into_iter()
        .filter(|(queue, _)| *queue == EventQueue::Epoll || sys::open_event_queue(*queue).is_ok())
}

fn with_event_queue(queue: EventQueue) -> Scenario {
    daemon!().from_state(|state| state.event_queue = Some(queue))
}

fn execute_checked_refuses_an_event_queue() {
    for (queue, name) in event_queues() {
        let error = with_event_queue(queue).entry(Entry::ExecuteChecked).fail();
        assert_eq!(error.kind, "SharedEventQueue");
        assert!(error.text.contains(name), "{error}");
        assert!(error.text.contains("start_checked"), "{error}");
    }
}

/// One of the processes ends, or the caller has promised that the queue is safe.
fn the_other_entry_points_accept_an_event_queue() {
    for (queue, _) in event_queues() {
        for entry in [Entry::StartChecked, Entry::Start, Entry::Execute] {
            with_event_queue(queue).entry(entry).start();
        }
    }
}

fn a_foreground_start_accepts_an_event_queue() {
    let scenario = with_event_queue(EventQueue::Epoll)
        .entry(Entry::ExecuteChecked)
        .foreground(Foreground::Yes);
    let run = scenario.launch();
    assert_eq!(run.report().pid, run.launcher_pid());
}
