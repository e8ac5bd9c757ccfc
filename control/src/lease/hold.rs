//! An elector over a connection: holds one Lease for as long as it can, and lets it go at the end.

use std::future::Future;
use std::pin::pin;

use tokio::sync::watch;

use super::{Elector, Labels, Leases, Moment, Step, Tenure, Terms};

/// Whether a Lease is held, for whoever acts under it. Ask right before each act, and give the act less time than
/// [`Terms::MARGIN`] leaves.
#[derive(Debug, Clone)]
pub struct Held {
    tenure: watch::Receiver<Option<Tenure>>,
}

impl Held {
    /// By this machine's own clock, so also when nobody has been able to say anything for long.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.tenure().is_some()
    }

    /// The time in which it is held without a break. Another `since` than before: read again what others may have written.
    #[must_use]
    pub fn tenure(&self) -> Option<Tenure> {
        self.tenure.borrow().filter(|tenure| tenure.covers(Moment::now()))
    }

    /// Waits until there is something new: taken, renewed or lost. Not when its time is over: [`Tenure::until`] says when
    /// that is. Nothing new comes any more when it was released: `false`.
    pub async fn changed(&mut self) -> bool {
        self.tenure.changed().await.is_ok()
    }
}

/// Tries to hold a Lease under an identity of its own ([`identity`](super::identity)) until `stop` is done; then releases it.
/// What is done under it must have ended when `stop` is: releasing lets somebody else begin.
///
/// Gives whether it is held, and the work, which has to be polled (as a task, say).
pub fn hold(
    leases: Leases,
    name: String,
    me: String,
    terms: Terms,
    labels: Labels,
    stop: impl Future<Output = ()>,
) -> (Held, impl Future<Output = ()>) {
    let (told, tenure) = watch::channel(None);
    let work = async move {
        let mut elector = Elector::new(me, terms);
        let mut stop = pin!(stop);
        let mut stopping = false;
        // A release that cannot be told is not waited for: the Lease runs out by itself.
        let mut tries = Terms::TRIES;
        while !elector.is_released() && tries > 0 {
            let step = elector.step(Moment::now());
            match &step {
                Step::Read | Step::Write(_) => {
                    let answered = leases.carry(&name, &step, &terms, &labels, &Labels::new()).await;
                    if let Some(why) = &answered.why {
                        tracing::debug!(lease = name, "{why}");
                    }
                    elector.finished(Moment::now(), answered.outcome);
                    tries -= u32::from(stopping && answered.why.is_some());
                }
                Step::WaitUntil(at) => {
                    tokio::select! {
                        () = tokio::time::sleep(at.since(Moment::now())) => {}
                        () = &mut stop, if !stopping => {
                            stopping = true;
                            elector.release();
                        }
                    }
                }
                Step::WaitForAnswer => tokio::task::yield_now().await,
            }
            let now = elector.tenure(Moment::now());
            told.send_if_modified(|tenure| std::mem::replace(tenure, now) != now);
        }
    };
    (Held { tenure }, work)
}
