//! The threads that tasks run on.

use smol::Executor;
use smol::future::{or, yield_now};
use std::future::Future;
use std::sync::Arc;

/// Tasks that are polled before sockets are checked again. Otherwise busy tasks would keep the
/// thread from its sockets, and a helper thread of the reactor would take over, at the cost of
/// switching between the two.
const TASKS_PER_LOOK: usize = 4;

/// Runs a future on this thread, and the executor's tasks on this and
/// `threads - 1` more, until the future is done. It is polled after every few
/// tasks, woken or not: it should wait for tasks and not for sockets.
pub fn run<T>(
    executor: &Arc<Executor<'static>>,
    threads: usize,
    future: impl Future<Output = T>,
) -> T {
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    for number in 1..threads {
        let (executor, stopped) = (executor.clone(), stopped.clone());
        let work = move || {
            let stopped = async {
                // Nothing is sent: the channel closes at the end.
                let _ = stopped.recv().await;
            };
            smol::block_on(or(stopped, work_through(&executor)));
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(work);
        if let Err(error) = thread {
            tracing::warn!(%error, "no further thread can be started");
            break;
        }
    }
    let value = smol::block_on(or(future, work_through(executor)));
    drop(stop);
    value
}

async fn work_through<T>(executor: &Executor<'static>) -> T {
    loop {
        executor.tick().await;
        for _ in 1..TASKS_PER_LOOK {
            if !executor.try_tick() {
                break;
            }
        }
        yield_now().await;
    }
}
