//! The few settings of a driver that AF_XDP stumbles over, as `ethtool` shows and sets them.
//!
//! - On veth, frames of a sender with [`Feature::TransmitChecksum`] reach the socket with an unfinished checksum.
//!   Switch it off at the end that sends into the socket's interface.
//! - Native XDP on veth wants NAPI on the peer: [`Feature::GenericReceiveOffload`] there, or an XDP program.
//!
//! Setting returns what was before, so that it can be put back. Needs CAP_NET_ADMIN; reading needs nothing.

use std::io;
use std::os::fd::AsFd;

use crate::error::Error;
use crate::ioctl;

const SIOCETHTOOL: libc::c_ulong = 0x8946;

// include/uapi/linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETH_FLAG_LRO: u32 = 1 << 15;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// A setting that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// `tx`: the sender leaves checksums to the device. Switching it off switches off what depends on it (`tso`).
    TransmitChecksum,
    /// `gso`: the sender leaves segmenting to the last moment before the device.
    GenericSegmentation,
    /// `gro`: the receiver joins segments.
    GenericReceiveOffload,
}

impl Feature {
    /// Commands to get and set it.
    const fn commands(self) -> (u32, u32) {
        match self {
            Feature::TransmitChecksum => (0x16, 0x17),
            Feature::GenericSegmentation => (0x23, 0x24),
            Feature::GenericReceiveOffload => (0x2b, 0x2c),
        }
    }
}

/// A structure of ethtool's: the command first.
///
/// # Safety
/// `#[repr(C)]`, integers only, and as large as the kernel's structure for each command that it is used with.
unsafe trait Argument {}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}
// SAFETY: the kernel's structure for all commands of `Feature`, and for ETHTOOL_GFLAGS.
unsafe impl Argument for Value {}

/// `struct ethtool_channels`
#[derive(Default)]
#[repr(C)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}
// SAFETY: the kernel's structure for ETHTOOL_GCHANNELS.
unsafe impl Argument for Channels {}

/// `struct ethtool_drvinfo`
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}
// SAFETY: the kernel's structure for ETHTOOL_GDRVINFO: 196 bytes, of which the driver's name is the first after the
// command.
unsafe impl Argument for DriverInfo {}

fn call<T: Argument>(name: &str, argument: &mut T) -> Result<(), Error> {
    let mut request = ioctl::request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut *argument).cast();
    let control = ioctl::control(name)?;
    // SAFETY: SIOCETHTOOL takes an address, and it leads to the command's structure, by `Argument`'s contract.
    let done = unsafe { ioctl::send(control.as_fd(), SIOCETHTOOL, &mut request) };
    done.map_err(|source| Error::from_io("ioctl(SIOCETHTOOL)", name, source))
}

/// Whether a feature is on.
///
/// # Errors
/// [`Error::System`]: ENODEV if there is no such interface, EOPNOTSUPP if the driver does not say.
pub fn feature(name: &str, feature: Feature) -> Result<bool, Error> {
    let mut value = Value { command: feature.commands().0, data: 0 };
    call(name, &mut value)?;
    Ok(value.data != 0)
}

/// Switches a feature, and says what it was before.
///
/// # Errors
/// As [`feature`]; EPERM without CAP_NET_ADMIN; EINVAL if the driver would not change it.
pub fn set_feature(name: &str, which: Feature, on: bool) -> Result<bool, Error> {
    let before = feature(name, which)?;
    if before == on {
        return Ok(before);
    }
    call(name, &mut Value { command: which.commands().1, data: u32::from(on) })?;
    // The kernel may take the call and keep a feature that another needs, or that is fixed.
    if feature(name, which)? != on {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(Error::from_io("ioctl(SIOCETHTOOL)", format!("{name}: {which:?} is fixed by the driver"), source));
    }
    Ok(before)
}

/// Whether the device joins segments before anybody sees them: with that, frames are longer than any buffer.
///
/// # Errors
/// As [`feature`].
pub fn large_receive_offload(name: &str) -> Result<bool, Error> {
    let mut value = Value { command: ETHTOOL_GFLAGS, data: 0 };
    call(name, &mut value)?;
    Ok(value.data & ETH_FLAG_LRO != 0)
}

/// Number of receive queues in use, where the driver says.
pub(crate) fn receive_queues(name: &str) -> Result<u32, Error> {
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    call(name, &mut channels)?;
    Ok(channels.rx + channels.combined)
}

/// The driver's name: `veth`, `mlx5_core`.
///
/// # Errors
/// As [`feature`].
pub fn driver(name: &str) -> Result<String, Error> {
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    call(name, &mut info)?;
    let text = info.driver.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}
