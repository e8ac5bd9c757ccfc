//! One module a command: what it asks or computes, and how people read the answer.

mod addresses;
mod check;
mod counters;
mod doctor;
mod documents;
mod drain;
mod events;
mod explain;
mod flow;
mod list;
mod metrics;
mod owners;
mod program;
mod status;

use crate::arguments::{Arguments, Backend, Command, Neigh, Port, Tunnel, Vip};
use crate::client::{Client, Daemon};
use crate::failure::Failure;

/// Does what the command line says.
pub(crate) fn run(Arguments { common, command }: Arguments) -> Result<(), Failure> {
    let format = common.output;
    let dataplane = || Client::new(Daemon::Dataplane, common.socket.clone());
    let control = || Client::new(Daemon::Control, common.control_socket.clone());
    match command {
        Command::Status(watch) => status::show(&dataplane()?, &control()?, format, watch),
        Command::Vip(Vip::List(watch)) => list::vips(&dataplane()?, format, watch),
        Command::Addresses { cluster, load_balancer_class_required, watch } => {
            addresses::show(control, format, &cluster, load_balancer_class_required, watch)
        }
        Command::Vip(Vip::Owners(watch)) => owners::show(&control()?, format, watch),
        Command::Backend(Backend::List { service, watch }) => list::backends(&dataplane()?, format, service, watch),
        Command::Backend(Backend::Draining(watch)) => list::drains(&dataplane()?, format, watch),
        Command::Neigh(Neigh::List(watch)) => list::neighbours(&dataplane()?, format, watch),
        Command::Port(Port::List(watch)) => list::ports(&dataplane()?, format, watch),
        Command::Tunnel(Tunnel::List(watch)) => list::tunnels(&dataplane()?, format, watch),
        Command::Flow(command) => flow::run(&dataplane()?, format, command),
        Command::Drops { all, watch } => counters::drops(&dataplane()?, format, all, watch),
        Command::Counters(watch) => counters::counters(&dataplane()?, format, watch),
        Command::Metrics { control: false, watch } => metrics::show(&dataplane()?, format, watch),
        Command::Metrics { control: true, watch } => metrics::show(&control()?, format, watch),
        Command::Events { follow } => events::show(&dataplane()?, format, follow),
        Command::Program(command) => program::run(dataplane, format, command),
        Command::Check { files, here } => check::run(format, &files, here),
        Command::Explain(question) => explain::run(dataplane, format, question),
        Command::Doctor { config, interface } => {
            doctor::run(&dataplane()?, format, &doctor::Scope { config, interfaces: interface })
        }
        Command::Drain { at_most } => drain::run(&common.control_socket, at_most),
        Command::Completions { shell } => documents::completions(shell),
        Command::Man { out } => documents::man(out.as_deref()),
    }
}
