//! A TAP device: an interface of the kernel whose wire is a file descriptor.
//!
//! What a dataplane takes from an interface but the kernel should have goes in by [`TapDevice::write`], and the
//! kernel takes it for received; what the kernel sends on it comes out by [`TapDevice::read`]. Frames are whole
//! Ethernet frames without FCS and without a header of the device's own. Neither call ever waits.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::error::Error;
use crate::{interface, ioctl};

// include/uapi/linux/if_tun.h and sockios.h
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const SIOCGIFFLAGS: libc::c_ulong = 0x8913;
const SIOCSIFFLAGS: libc::c_ulong = 0x8914;
const SIOCSIFADDR: libc::c_ulong = 0x8916;
const SIOCSIFNETMASK: libc::c_ulong = 0x891c;
const SIOCSIFMTU: libc::c_ulong = 0x8922;
const SIOCGIFHWADDR: libc::c_ulong = 0x8927;
const SIOCSIFHWADDR: libc::c_ulong = 0x8924;
const IFF_TAP: libc::c_short = 0x0002;
const IFF_NO_PI: libc::c_short = 0x1000;
const ARPHRD_ETHER: libc::sa_family_t = 1;

/// A TAP device. It exists as long as this, or a copy of its descriptor, is open.
#[derive(Debug)]
pub struct TapDevice {
    file: File,
    name: String,
    index: u32,
}

impl TapDevice {
    /// Makes a device, down, in this thread's network namespace. The name may be a pattern with `%d`. Needs
    /// CAP_NET_ADMIN.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be; [`Error::System`]: EBUSY if one of that name is open, EPERM
    /// without the capability.
    pub fn create(name: &str) -> Result<TapDevice, Error> {
        let mut request = ioctl::request(name)?;
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
        let file = file.map_err(|source| Error::from_io("open(/dev/net/tun)", name, source))?;
        request.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI;
        // SAFETY: TUNSETIFF takes flags, and writes the name that it chose into the request.
        let done = unsafe { ioctl::send(file.as_fd(), TUNSETIFF, &mut request) };
        done.map_err(|source| Error::from_io("ioctl(TUNSETIFF)", name, source))?;
        let chosen = request.ifr_name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8).collect();
        let name =
            String::from_utf8(chosen).map_err(|_| Error::invalid("interface name", "the kernel's is not UTF-8"))?;
        let index = interface::index(&name)?;
        Ok(TapDevice { file, name, index })
    }

    /// Takes over a device that is open already, such as one made by a process with more rights.
    ///
    /// # Errors
    /// [`Error::System`] if there is no interface of this name here.
    pub fn from_fd(fd: OwnedFd, name: &str) -> Result<TapDevice, Error> {
        let index = interface::index(name)?;
        Ok(TapDevice { file: File::from(fd), name: name.to_owned(), index })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its interface index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its MAC address.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        let mut request = ioctl::request(&self.name)?;
        let control = ioctl::control(&self.name)?;
        // SAFETY: SIOCGIFHWADDR takes nothing and writes an address.
        let done = unsafe { ioctl::send(control.as_fd(), SIOCGIFHWADDR, &mut request) };
        done.map_err(|source| Error::from_io("ioctl(SIOCGIFHWADDR)", &self.name, source))?;
        // SAFETY: the kernel has just written this member.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        Ok(mac)
    }

    /// Sets its MAC address.
    ///
    /// # Errors
    /// [`Error::System`]: EADDRNOTAVAIL if it is a group address or zero.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), Error> {
        let mut address = libc::sockaddr { sa_family: ARPHRD_ETHER, sa_data: [0; 14] };
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from as libc::c_char;
        }
        self.set("ioctl(SIOCSIFHWADDR)", SIOCSIFHWADDR, libc::__c_anonymous_ifr_ifru { ifru_hwaddr: address })
    }

    /// Gives it one IPv4 address, alone in its network (a /32). While the device is down no route but the address's own comes of it.
    ///
    /// # Errors
    /// [`Error::System`]: EINVAL for an address that no host can have.
    pub fn set_address(&self, address: Ipv4Addr) -> Result<(), Error> {
        let value = |address: Ipv4Addr| {
            let mut all = libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: [0; 14] };
            // struct sockaddr_in: a port, then the address, then nothing.
            for (to, from) in all.sa_data.iter_mut().skip(2).zip(address.octets()) {
                *to = from as libc::c_char;
            }
            libc::__c_anonymous_ifr_ifru { ifru_addr: all }
        };
        self.set("ioctl(SIOCSIFADDR)", SIOCSIFADDR, value(address))?;
        self.set("ioctl(SIOCSIFNETMASK)", SIOCSIFNETMASK, value(Ipv4Addr::BROADCAST))
    }

    /// Sets its MTU, in bytes of IP packet.
    ///
    /// # Errors
    /// [`Error::System`]: EINVAL if it is under 68 or over 65,521.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let mtu = libc::__c_anonymous_ifr_ifru { ifru_mtu: i32::from(mtu) };
        self.set("ioctl(SIOCSIFMTU)", SIOCSIFMTU, mtu)
    }

    /// Sets it up.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn set_up(&self) -> Result<(), Error> {
        self.add_flag(libc::IFF_UP)
    }

    /// Has the kernel neither ask nor answer ARP on it: what is routed there goes to the device's own MAC, and from it.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn set_noarp(&self) -> Result<(), Error> {
        self.add_flag(libc::IFF_NOARP)
    }

    fn add_flag(&self, flag: libc::c_int) -> Result<(), Error> {
        let mut request = ioctl::request(&self.name)?;
        let control = ioctl::control(&self.name)?;
        // SAFETY: SIOCGIFFLAGS takes nothing and writes flags.
        let done = unsafe { ioctl::send(control.as_fd(), SIOCGIFFLAGS, &mut request) };
        done.map_err(|source| Error::from_io("ioctl(SIOCGIFFLAGS)", &self.name, source))?;
        // SAFETY: the kernel has just written this member.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        let flags = flags | flag as libc::c_short;
        self.set("ioctl(SIOCSIFFLAGS)", SIOCSIFFLAGS, libc::__c_anonymous_ifr_ifru { ifru_flags: flags })
    }

    fn set(&self, call: &'static str, code: libc::c_ulong, value: libc::__c_anonymous_ifr_ifru) -> Result<(), Error> {
        let mut request = ioctl::request(&self.name)?;
        request.ifr_ifru = value;
        let control = ioctl::control(&self.name)?;
        // SAFETY: each caller gives the member that its code takes, and none of them is a pointer.
        let done = unsafe { ioctl::send(control.as_fd(), code, &mut request) };
        done.map_err(|source| Error::from_io(call, &self.name, source))
    }

    /// The next frame that the kernel has sent, its length; `None` if there is none. A frame longer than the buffer
    /// is cut.
    ///
    /// # Errors
    /// What read(2) says; EIO while the device is down is taken for "none".
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(len) => Ok(Some(len)),
            Err(error) if is_nothing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a frame to the kernel as received. False if it did not take it: the device is down, or its queue is full.
    ///
    /// # Errors
    /// What write(2) says: EINVAL for a runt.
    pub fn write(&self, frame: &[u8]) -> io::Result<bool> {
        match (&self.file).write(frame) {
            Ok(_) => Ok(true),
            Err(error) if is_nothing(&error) || error.raw_os_error() == Some(libc::ENOBUFS) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// "Not now": nothing there, a signal, or the device is down (EIO).
fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        || error.raw_os_error() == Some(libc::EIO)
}

impl AsFd for TapDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
