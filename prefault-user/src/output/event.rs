//! One line of text for a short copy or a failed prefault.

use crate::data::EventRecord;

use super::units;

/// When, what, who, where in which file, how much of it, and the address, ended by a newline. The time is seconds of
/// CLOCK_MONOTONIC.
pub fn line(event: &EventRecord) -> String {
    let micros = event.timestamp_ns / 1_000;
    let is_named = event.device != event.fstype && event.device != "-";
    let device = if is_named { format!("/{}", event.device) } else { String::new() };
    let address = event.user_address.map_or_else(|| "unknown".to_owned(), |address| format!("{address:#x}"));
    format!(
        "{}.{:06} {:<15} {}[{}/{}] {} inode={} position={} asked={} done={} address={address} path={}\n",
        micros / 1_000_000,
        micros % 1_000_000,
        event.kind_name(),
        units::printable(&event.comm),
        event.pid,
        event.tid,
        units::printable(&format!("{}{device}", event.fstype)),
        event.inode,
        event.position,
        event.asked,
        event.done,
        units::printable(&event.path),
    )
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::EventKind;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = EventRecord {
            timestamp_ns: 12_000_034_567,
            kind: EventKind::ShortCopy,
            pid: 7,
            tid: 8,
            comm: "a b\n".into(),
            fstype: "ext4".into(),
            device: "vdb".into(),
            inode: 12,
            position: 4096,
            asked: 8192,
            done: 100,
            user_address: Some(0x7f00_1000),
            path: "generic_perform_write".into(),
        };
        assert_eq!(
            line(&event),
            "12.000034 short_copy      a b\\n[7/8] ext4/vdb inode=12 position=4096 asked=8192 done=100 \
             address=0x7f001000 path=generic_perform_write\n"
        );
        let tmpfs = EventRecord {
            kind: EventKind::FailedPrefault,
            fstype: "tmpfs".into(),
            device: "tmpfs".into(),
            user_address: None,
            ..event
        };
        assert!(line(&tmpfs).contains("failed_prefault a b\\n[7/8] tmpfs inode=12 "), "{}", line(&tmpfs));
        assert!(line(&tmpfs).contains(" address=unknown "));
    }
}
