//! What drivers say that they can do for XDP: the generic netlink family `netdev` (Linux 6.3,
//! `Documentation/netlink/specs/netdev.yaml`), of which one question is needed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};

// include/uapi/linux/netlink.h, genetlink.h, netdev.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// By the interface's index. None, and an error, where the kernel has no such family.
pub(super) fn xdp_features() -> io::Result<BTreeMap<u32, u64>> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
    // The kernel answers at once; should it not, this does not wait for ever.
    setsockopt(&netlink, ReceiveTimeout, &TimeVal::seconds(2))?;
    let mut family = None;
    ask(
        &netlink,
        GENL_ID_CTRL,
        NLM_F_REQUEST,
        CTRL_CMD_GETFAMILY,
        &attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0"),
        |found| {
            family = find(found, CTRL_ATTR_FAMILY_ID).and_then(|value| Some(u16::from_ne_bytes(*value.first_chunk()?)));
        },
    )?;
    let family = family.ok_or_else(|| io::Error::other("the kernel has no family `netdev`"))?;
    let mut features = BTreeMap::new();
    ask(&netlink, family, NLM_F_REQUEST | NLM_F_DUMP, NETDEV_CMD_DEV_GET, &[], |found| {
        let index = find(found, NETDEV_A_DEV_IFINDEX).and_then(|value| Some(u32::from_ne_bytes(*value.first_chunk()?)));
        let can =
            find(found, NETDEV_A_DEV_XDP_FEATURES).and_then(|value| Some(u64::from_ne_bytes(*value.first_chunk()?)));
        features.extend(index.zip(can));
    })?;
    Ok(features)
}

/// One question, and the attributes of each answer.
fn ask(
    netlink: &OwnedFd,
    family: u16,
    flags: u16,
    command: u8,
    attributes: &[u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let length = u32::try_from(16 + 4 + attributes.len()).unwrap_or(u32::MAX);
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port: one question at a time, so neither matters.
    message.extend([0; 8]);
    // Command, version, reserved.
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    // The kernel fills at most 32 KiB of an answer to a dump.
    let mut buffer = vec![0; 64 << 10];
    loop {
        let received = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..received).unwrap_or_default();
        while let Some((kind, body, after)) = message_of(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                // After the generic header.
                _ => each(body.get(4..).unwrap_or_default()),
            }
            // A dump goes on up to NLMSG_DONE, and this family's does not say so of each part (NLM_F_MULTI).
            if flags & NLM_F_DUMP == 0 {
                return Ok(());
            }
            rest = after;
        }
    }
}

/// Type, body, and what follows.
fn message_of(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of an attribute.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        // Its two top bits are flags.
        if kind & 0x3fff == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_garbage_is_not() {
        let bytes = [attribute(1, &[7, 0, 0, 0]), attribute(9, &[1]), attribute(3 | 0x8000, &[1; 8])].concat();
        assert_eq!(find(&bytes, 1), Some(&[7, 0, 0, 0][..]));
        assert_eq!(find(&bytes, 3), Some(&[1; 8][..]));
        assert_eq!(find(&bytes, 4), None);
        for cut in 0..bytes.len() {
            // Whatever comes of it, it ends.
            find(&bytes[..cut], 3);
            message_of(&bytes[..cut]);
        }
        assert_eq!(find(&[0; 64], 5), None);
    }

    #[test]
    fn this_kernel_answers_or_says_that_it_cannot() {
        match xdp_features() {
            // The loopback has no XDP of its own, and is always there.
            Ok(features) => assert!(features.contains_key(&1), "{features:?}"),
            Err(error) => eprintln!("SKIPPED: {error}"),
        }
    }
}
