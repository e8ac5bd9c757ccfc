//! How the kernel schedules the thread that polls: sched_setattr(2) and sched_getattr(2).
//!
//! A polling thread looks to the scheduler like any program that computes for ever: it gets its share, and is taken off its core for
//! whoever else wants one. While it is off, rings fill; what a ring cannot hold is lost. This says that it is not like any program.
//!
//! | | beside an ordinary task that computes on the same core | needs |
//! |---|---|---|
//! | [`Schedule::Fair`], nice 0 | half of the core, in turns of a tick or so | nothing |
//! | [`Schedule::Fair`], nice -20 | 98.9 % of it; still a turn for the other now and then | CAP_SYS_NICE |
//! | [`Schedule::Fifo`], [`Schedule::RoundRobin`] | all of it, but for what the kernel reserves | CAP_SYS_NICE |
//!
//! What the kernel reserves against real-time tasks that never sleep is 50 ms of each second, at a stretch
//! (Documentation/scheduler/sched-rt-group.rst): since Linux 6.12 only if an ordinary task waits, before that always, unless
//! `kernel.sched_rt_runtime_us` is -1. 50 ms are more than any ring holds, so real time is for cores that are isolated.
//!
//! Neither rustix nor nix has these calls, and the C library only of late (glibc 2.41), so they are made by number. The layout of
//! `struct sched_attr` and the rules are those of `include/uapi/linux/sched/types.h` and `kernel/sched/syscalls.c`.

use std::time::Duration;

use crate::error::Error;

/// The class that a thread is scheduled in, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// `SCHED_OTHER`: shares of the core by weight.
    Fair {
        /// -20, the greatest weight (88,761), to 19, the least (15); 0 is everybody's (1,024). A step is about a quarter.
        nice: i8,
        /// How long it asks to run at a time. The shorter, the sooner it runs after a sleep, and the share is the same. The kernel takes
        /// it within 0.1 to 100 ms, and before Linux 6.12 not at all. `None`: as the kernel has it for everybody.
        slice: Option<Duration>,
    },
    /// `SCHED_FIFO`: before all fair tasks, and before those of a lower priority, for as long as it does not sleep.
    Fifo {
        /// 1 to 99, the highest.
        priority: u8,
    },
    /// `SCHED_RR`: the same, taking turns with others of the same priority.
    RoundRobin {
        /// 1 to 99, the highest.
        priority: u8,
    },
}

impl Schedule {
    /// Has the calling thread scheduled so. Threads that it starts from then on inherit it.
    ///
    /// # Errors
    /// [`Error::System`]: without CAP_SYS_NICE, unless RLIMIT_NICE or RLIMIT_RTPRIO allows it; for real time also in a cgroup to which
    /// a kernel with CONFIG_RT_GROUP_SCHED has given none.
    pub fn apply(self) -> Result<(), Error> {
        let attributes = self.attributes();
        // SAFETY: the pointer is to a structure that lives during the call, and whose `size` says how long it is; it is only read.
        let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
        if done == 0 { Ok(()) } else { Err(Error::last("sched_setattr", self.to_string())) }
    }

    /// How a thread is scheduled; 0 is the calling one. `None`: in another class (`SCHED_BATCH`, `SCHED_IDLE`, `SCHED_DEADLINE`, …).
    ///
    /// # Errors
    /// [`Error::System`] if there is no such thread.
    pub fn of(thread: i32) -> Result<Option<Schedule>, Error> {
        let mut attributes = libc::sched_attr { size: SIZE, ..NONE };
        // SAFETY: the pointer is to a structure that lives during the call and is written up to the size that is given, which is its own.
        let done = unsafe { libc::syscall(libc::SYS_sched_getattr, thread, &raw mut attributes, SIZE, 0) };
        if done != 0 {
            return Err(Error::last("sched_getattr", format!("thread {thread}")));
        }
        let priority = u8::try_from(attributes.sched_priority).unwrap_or(u8::MAX);
        Ok(match attributes.sched_policy.cast_signed() {
            libc::SCHED_OTHER => Some(Schedule::Fair {
                nice: i8::try_from(attributes.sched_nice).unwrap_or_default(),
                // Linux 6.12 and later say the slice in force, whether it was asked for or is everybody's; earlier ones say 0.
                slice: Some(Duration::from_nanos(attributes.sched_runtime)).filter(|slice| !slice.is_zero()),
            }),
            libc::SCHED_FIFO => Some(Schedule::Fifo { priority }),
            libc::SCHED_RR => Some(Schedule::RoundRobin { priority }),
            _ => None,
        })
    }

    fn attributes(self) -> libc::sched_attr {
        let (policy, nice, priority, slice) = match self {
            Schedule::Fair { nice, slice } => (libc::SCHED_OTHER, nice, 0, slice),
            Schedule::Fifo { priority } => (libc::SCHED_FIFO, 0, priority, None),
            Schedule::RoundRobin { priority } => (libc::SCHED_RR, 0, priority, None),
        };
        libc::sched_attr {
            size: SIZE,
            sched_policy: policy.cast_unsigned(),
            sched_nice: nice.into(),
            sched_priority: priority.into(),
            sched_runtime: slice.map_or(0, |slice| u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX)),
            ..NONE
        }
    }
}

/// Length of the first version of the structure, which has all that is used here, and which every kernel since 3.14 knows.
const SIZE: u32 = size_of::<libc::sched_attr>() as u32;

/// Nothing asked for.
const NONE: libc::sched_attr = libc::sched_attr {
    size: 0,
    sched_policy: 0,
    sched_flags: 0,
    sched_nice: 0,
    sched_priority: 0,
    sched_runtime: 0,
    sched_deadline: 0,
    sched_period: 0,
};

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Schedule::Fair { nice, slice: None } => write!(f, "fair, nice {nice}"),
            Schedule::Fair { nice, slice: Some(slice) } => write!(f, "fair, nice {nice}, slice {slice:?}"),
            Schedule::Fifo { priority } => write!(f, "fifo, priority {priority}"),
            Schedule::RoundRobin { priority } => write!(f, "round-robin, priority {priority}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What a thread of its own gets when it asks for this.
    fn asked(schedule: Schedule) -> Result<Option<Schedule>, Error> {
        let ask = move || schedule.apply().and_then(|()| Schedule::of(0));
        std::thread::spawn(ask).join().unwrap()
    }

    /// Whether this may be tried here.
    fn allowed() -> bool {
        let allowed = asked(Schedule::Fair { nice: -1, slice: None }).is_ok();
        if !allowed {
            eprintln!("SKIPPED: a place before others needs CAP_SYS_NICE");
        }
        allowed
    }

    #[test]
    fn the_structure_is_the_first_version_of_the_kernels() {
        assert_eq!(SIZE, 48, "SCHED_ATTR_SIZE_VER0");
    }

    #[test]
    fn a_thread_gives_way_if_it_says_so() {
        // Needs no right.
        let got = asked(Schedule::Fair { nice: 19, slice: None }).unwrap();
        assert!(matches!(got, Some(Schedule::Fair { nice: 19, .. })), "{got:?}");
    }

    #[test]
    fn a_thread_gets_what_it_asks_for() {
        if !allowed() {
            return;
        }
        let slice = Duration::from_micros(300);
        let got = asked(Schedule::Fair { nice: -20, slice: Some(slice) }).unwrap();
        let Some(Schedule::Fair { nice: -20, slice: granted }) = got else { panic!("{got:?}") };
        if granted.is_none() {
            eprintln!("SKIPPED: slices need Linux 6.12");
        } else {
            assert_eq!(granted, Some(slice));
        }
        for schedule in [Schedule::Fifo { priority: 7 }, Schedule::RoundRobin { priority: 1 }] {
            match asked(schedule) {
                Ok(got) => assert_eq!(got, Some(schedule)),
                Err(error) => eprintln!("SKIPPED: no real time here: {error}"),
            }
        }
    }

    #[test]
    fn others_are_left_as_they_are() {
        let before = Schedule::of(0).unwrap();
        asked(Schedule::Fair { nice: 19, slice: None }).unwrap();
        assert_eq!(Schedule::of(0).unwrap(), before);
    }

    #[test]
    fn what_the_kernel_refuses_is_told_with_what_helps() {
        let error = asked(Schedule::Fifo { priority: 100 }).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert!(error.to_string().starts_with("fifo, priority 100: sched_setattr: "), "{error}");
        let refused = Error::from_io("sched_setattr", "", std::io::Error::from_raw_os_error(libc::EPERM));
        assert!(refused.help().unwrap().contains("CAP_SYS_NICE"));
        assert!(Schedule::of(i32::MAX).is_err());
    }
}
