//! Which modules have to be loaded, and in which order. Works on the text of `modules.dep` and `modules.builtin`; the files
//! are read elsewhere.

use anyhow::{Context as _, Result};

/// The paths of the modules of those names and of everything they depend on, in an order in which they can be inserted.
/// What is built into the kernel is left out.
///
/// # Errors
/// When a name is neither a module nor built in.
pub fn load_order<'a>(dependencies: &'a str, builtin: &str, names: &[&str]) -> Result<Vec<&'a str>> {
    let mut order = Vec::new();
    for wanted in names {
        let line = dependencies.lines().find_map(|line| {
            let (module, needed) = line.split_once(':')?;
            (name(module) == *wanted).then_some((module, needed))
        });
        let Some((module, needed)) = line else {
            builtin
                .lines()
                .find(|module| name(module) == *wanted)
                .with_context(|| format!("failed to find the kernel module {wanted}"))?;
            continue;
        };
        // depmod lists what a module needs with the deepest dependency last.
        for path in needed.split_whitespace().rev().chain([module]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// The name the kernel gives a module: its file name without suffixes, with underscores.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(stem, _)| stem).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz
kernel/net/9p/9pnet.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio_pci_legacy-dev.ko:
";

    #[test]
    fn dependencies_come_first_and_once() {
        let order = load_order(DEPENDENCIES, "", &["9p", "9pnet_virtio"]).expect("both exist");
        assert_eq!(
            order,
            [
                "kernel/fs/netfs/netfs.ko.xz",
                "kernel/net/9p/9pnet.ko.xz",
                "kernel/fs/9p/9p.ko.xz",
                "kernel/drivers/virtio/virtio_ring.ko.xz",
                "kernel/drivers/virtio/virtio.ko.xz",
                "kernel/net/9p/9pnet_virtio.ko.xz",
            ]
        );
    }

    #[test]
    fn built_in_modules_are_left_out_and_unknown_ones_refused() {
        let builtin = "kernel/drivers/virtio/virtio_pci.ko\n";
        assert_eq!(load_order(DEPENDENCIES, builtin, &["virtio_pci"]).expect("built in"), [""; 0]);
        let error = load_order(DEPENDENCIES, builtin, &["brd"]).expect_err("unknown");
        assert_eq!(error.to_string(), "failed to find the kernel module brd");
    }

    #[test]
    fn hyphens_are_underscores() {
        let order = load_order(DEPENDENCIES, "", &["virtio_pci_legacy_dev"]).expect("it exists");
        assert_eq!(order, ["kernel/drivers/virtio/virtio_pci_legacy-dev.ko"]);
    }
}
