//! The container that a cgroup belongs to.

/// The identifier of the container that a cgroup's path names, as the container's engine knows
/// it. If containers run within containers, it is that of the innermost one.
///
/// | engine | name of the cgroup | identifier |
/// |---|---|---|
/// | Docker, containerd, CRI-O, Podman (systemd) | `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, ... | ID, 64 hexadecimal digits |
/// | Docker, Kubernetes (cgroupfs) | `/docker/ID`, `/kubepods/.../podUID/ID` | ID |
/// | systemd-nspawn | `systemd-nspawn@NAME.service`, `machine-NAME.scope` | NAME |
/// | LXC | `lxc.payload.NAME`, `lxc.payload/NAME`, `lxc/NAME` | NAME |
///
/// The process that supervises a container (conmon, lxc.monitor, nspawn's supervisor) is not in
/// the container. A virtual machine (`machine-qemu...`) is not a container.
pub fn container(cgroup: &[u8]) -> Option<Vec<u8>> {
    let names: Vec<&[u8]> = cgroup.split(|&byte| byte == b'/').collect();
    (1..names.len()).rev().find_map(|at| {
        let above = names[at - 1];
        // systemd-nspawn itself runs here, beside the container's processes.
        if names.get(at + 1) == Some(&&b"supervisor"[..]) {
            return None;
        }
        named(names[at]).or_else(|| {
            let lxc = [&b"lxc"[..], b"lxc.payload"].contains(&above);
            (lxc && !names[at].is_empty()).then(|| names[at].to_vec())
        })
    })
}

/// The identifier that one name in a cgroup's path holds.
fn named(name: &[u8]) -> Option<Vec<u8>> {
    if let Some(machine) = name.strip_prefix(b"systemd-nspawn@") {
        return machine.strip_suffix(b".service").map(unescape);
    }
    if let Some(machine) = name.strip_prefix(b"machine-") {
        let machine = machine.strip_suffix(b".scope").map(unescape);
        return machine.filter(|machine| !machine.starts_with(b"qemu-"));
    }
    if let Some(name) = name.strip_prefix(b"lxc.payload.") {
        return Some(name.to_vec());
    }
    let name = name.strip_suffix(b".scope").unwrap_or(name);
    let (engine, id) = match name.iter().rposition(|&byte| byte == b'-') {
        Some(dash) => (&name[..dash], &name[dash + 1..]),
        None => (&b""[..], name),
    };
    let is_id = id.len() == 64
        && id
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_id && !engine.ends_with(b"conmon")).then(|| id.to_vec())
}

/// Replaces systemd's escapes, such as `\x2d` for a dash, by what they stand for:
/// systemd.unit(5).
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        let (code, after) = escape(rest).unwrap_or((byte, after));
        out.push(code);
        rest = after;
    }
    out
}

/// The byte that the escape at the beginning of a text stands for, and what follows the escape.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.strip_prefix(b"\\x")?.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u8::from_str_radix(digits, 16).ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn engines_name_their_cgroups_each_in_its_way() {
        for cgroup in [
            "/system.slice/docker-ID.scope",
            "/docker/ID",
            "/docker/ID/init.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-pod1.slice/crio-ID.scope/container",
            "/kubepods/besteffort/pod00-11/ID",
            "/machine.slice/libpod-ID.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "/libpod_parent/libpod-ID",
            "/system.slice/nerdctl-ID.scope",
        ] {
            let container = container(cgroup.replace("ID", ID).as_bytes());
            assert_eq!(container.as_deref(), Some(ID.as_bytes()), "{cgroup}");
        }
        for (cgroup, name) in [
            (
                "/machine.slice/systemd-nspawn@web\\x2d1.service/payload",
                "web-1",
            ),
            ("/machine.slice/machine-web.scope", "web"),
            ("/lxc.payload.web/system.slice", "web"),
            ("/lxc.payload/web", "web"),
            ("/lxc/web/init.scope", "web"),
        ] {
            let container = container(cgroup.as_bytes());
            assert_eq!(container.as_deref(), Some(name.as_bytes()), "{cgroup}");
        }
    }

    #[test]
    fn the_innermost_container_counts() {
        let inner = ID.replace('0', "f");
        let cgroup = format!("/docker/{ID}/docker/{inner}");
        assert_eq!(container(cgroup.as_bytes()), Some(inner.into_bytes()));
    }

    #[test]
    fn what_is_in_no_container_has_none() {
        for cgroup in [
            "",
            "/",
            "/system.slice/ssh.service",
            "/machine.slice/libpod-conmon-ID.scope",
            "/kubepods.slice/kubepods-pod1.slice/crio-conmon-ID.scope",
            "/lxc.monitor.web",
            "/machine.slice/systemd-nspawn@web.service/supervisor",
            "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope",
            "/user.slice/session-1.scope",
            "/system.slice/docker-12ab.scope",
            "/lxc/",
        ] {
            let container = container(cgroup.replace("ID", ID).as_bytes());
            assert_eq!(container, None, "{cgroup}");
        }
    }
}
