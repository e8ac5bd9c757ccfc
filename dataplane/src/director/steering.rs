//! Which frames the XDP programs take: first less, then the tables, then more.

use crate::neighbours::{Asking, Diverted};
use crate::tables::master::Steered;

/// The maps of one port's XDP program.
pub trait Steer: Send {
    /// Makes them say exactly this.
    ///
    /// # Errors
    /// What could not be said, in words; what was said before may then be said in part.
    fn steer(&mut self, wanted: &Steered) -> Result<(), String>;
}

/// What is routed, rather than taken, follows the same order.
impl Steer for Asking {
    fn steer(&mut self, wanted: &Steered) -> Result<(), String> {
        self.divert(Diverted { nets: wanted.diverted.clone(), ports: wanted.diverted_ports.clone() });
        Ok(())
    }
}

/// All ports that are shared with the kernel, in step.
pub struct Steering {
    ports: Vec<Box<dyn Steer>>,
    /// What the maps say.
    now: Steered,
    /// What they are to say when every worker has the tables for it.
    aim: Steered,
    /// Whether they do; most calls find it so, and must cost nothing.
    widened: bool,
    /// A map refused: it is to be told everything again.
    broken: bool,
}

impl Steering {
    /// Over maps that are empty.
    #[must_use]
    pub fn new(ports: Vec<Box<dyn Steer>>) -> Self {
        Steering { ports, now: Steered::default(), aim: Steered::default(), widened: true, broken: false }
    }

    /// Another one, beside those that there are.
    pub fn add(&mut self, port: Box<dyn Steer>) {
        self.ports.push(port);
    }

    /// What is to be taken in the end.
    pub fn aim(&mut self, aim: Steered) {
        self.widened = self.widened && self.aim == aim;
        self.aim = aim;
    }

    /// Takes what is taken now and is still to be taken: safe before tables change.
    ///
    /// # Errors
    /// See [`Steer::steer`].
    pub fn narrow(&mut self) -> Result<(), String> {
        if self.widened {
            return Ok(());
        }
        let both = Steered {
            owned: self.now.owned.intersection(&self.aim.owned).copied().collect(),
            shared: self.now.shared.intersection(&self.aim.shared).copied().collect(),
            ports: self.now.ports.intersection(&self.aim.ports).copied().collect(),
            ip_in_ip: self.now.ip_in_ip && self.aim.ip_in_ip,
            far_ports: self.now.far_ports.intersection(&self.aim.far_ports).copied().collect(),
            // These are exceptions from what is taken: more of them is less taken.
            kernel: self.now.kernel.union(&self.aim.kernel).copied().collect(),
            diverted: self.now.diverted.intersection(&self.aim.diverted).copied().collect(),
            diverted_ports: self.now.diverted_ports.intersection(&self.aim.diverted_ports).copied().collect(),
        };
        self.say(both)
    }

    /// Takes everything that is to be taken: safe once every worker has the tables for it.
    ///
    /// # Errors
    /// See [`Steer::steer`].
    pub fn widen(&mut self) -> Result<(), String> {
        if self.widened {
            return Ok(());
        }
        self.widened = true;
        let aim = self.aim.clone();
        self.say(aim)
    }

    /// Has what was refused be said again.
    pub fn retry(&mut self) {
        self.widened = self.widened && !self.broken;
    }

    fn say(&mut self, steered: Steered) -> Result<(), String> {
        if steered == self.now && !self.broken {
            return Ok(());
        }
        let mut outcome = Ok(());
        for port in &mut self.ports {
            outcome = outcome.and(port.steer(&steered));
        }
        self.broken = outcome.is_err();
        self.now = steered;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<Steered>>>);
    impl Steer for Said {
        fn steer(&mut self, wanted: &Steered) -> Result<(), String> {
            self.0.lock().unwrap().push(wanted.clone());
            Ok(())
        }
    }

    fn owned(prefixes: &[&str]) -> Steered {
        Steered { owned: prefixes.iter().map(|net| net.parse().unwrap()).collect(), ..Steered::default() }
    }

    #[test]
    fn what_is_lost_goes_first_and_what_is_gained_comes_last() {
        let said = Said::default();
        let mut steering = Steering::new(vec![Box::new(said.clone())]);
        steering.aim(owned(&["10.0.0.1/32", "10.0.0.2/32"]));
        steering.narrow().unwrap();
        steering.widen().unwrap();
        steering.aim(owned(&["10.0.0.2/32", "10.0.0.3/32"]));
        steering.narrow().unwrap();
        steering.widen().unwrap();
        steering.widen().unwrap();
        let said = said.0.lock().unwrap();
        let expected =
            [owned(&["10.0.0.1/32", "10.0.0.2/32"]), owned(&["10.0.0.2/32"]), owned(&["10.0.0.2/32", "10.0.0.3/32"])];
        assert_eq!(*said, expected);
    }
}
