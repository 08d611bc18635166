//! The devices and CPUs of a host ─► those of each rank on it

use std::collections::BTreeSet;
use std::num::NonZero;

use communicator::{Communicator, Place};
use serde::{Deserialize, Serialize};

use crate::failure::Result;
use crate::model::ModelArgs;
use crate::text_table::list_first;

/// What a rank has.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RankResources {
    host: String,
    /// CPUs that the rank may use.
    cpus: BTreeSet<usize>,
    /// CPUs of the host.
    online: usize,
    threads: usize,
    device: String,
}

/// Gives this rank a device of its own and a part of the host's CPUs, unless the options do.
pub fn share_host(
    ranks: &dyn Communicator,
    model: &mut ModelArgs,
    notify: &dyn Fn(&str),
) -> Result {
    let Place { host, local_rank, local_world } = ranks.place();
    let mut device = model.device_name()?.to_owned();
    if local_world > 1 && device::backend(&device).is_some_and(|backend| backend.indexed) {
        device = device::nth_best(&device, local_rank)?;
        model.device = Some(device.clone());
    }
    let parallelism = std::thread::available_parallelism().map_or(1, NonZero::get);
    let cpus = allowed_cpus().unwrap_or_else(|| (0..parallelism).collect());
    let online =
        read_cpu_list("/sys/devices/system/cpu/online", "").map_or(cpus.len(), |all| all.len());
    let mut own = RankResources { host: host.clone(), cpus, online, threads: 0, device };
    let share = |own: &RankResources| serde_json::to_vec(own).expect("plain JSON");
    let all = ranks.all_gather(&share(&own));
    let parse = |bytes: &Vec<u8>| serde_json::from_slice::<RankResources>(bytes).ok();
    let local = all.iter().filter_map(parse).filter(|rank| rank.host == host).collect::<Vec<_>>();
    let local = local.iter().map(|rank| &rank.cpus).collect::<Vec<_>>();
    if model.threads.is_none() {
        let threads = thread_share(&own.cpus, &local, parallelism);
        model.threads = u16::try_from(threads).ok();
    }
    own.threads = model.threads.map_or(parallelism, usize::from);
    let all = ranks.gather(&share(&own));
    let all = all.iter().filter_map(parse).collect::<Vec<_>>();
    if !all.is_empty() {
        notify(&describe(&all));
    }
    Ok(())
}

/// The threads of a rank: of each CPU that it may use the part that is left by the ranks that may use it
/// too. `parallelism` is the number of CPUs that the container's quota allows.
fn thread_share(own: &BTreeSet<usize>, local: &[&BTreeSet<usize>], parallelism: usize) -> usize {
    let users = |cpu: &usize| local.iter().filter(|cpus| cpus.contains(cpu)).count().max(1);
    let share = own.iter().map(|cpu| 1.0 / users(cpu) as f64).sum::<f64>();
    let quota = (parallelism as f64 / own.len().max(1) as f64).min(1.0);
    // Thirds do not sum up to one exactly.
    ((share * quota + 1e-6) as usize).max(1)
}

/// The CPUs that this process may use, where the system tells.
fn allowed_cpus() -> Option<BTreeSet<usize>> {
    read_cpu_list("/proc/self/status", "Cpus_allowed_list:")
}

/// A list of CPUs such as `0-3,8`, in the line of a file that begins with `key`.
fn read_cpu_list(path: &str, key: &str) -> Option<BTreeSet<usize>> {
    let text = std::fs::read_to_string(path).ok()?;
    let list = text.lines().find_map(|line| line.strip_prefix(key))?;
    parse_cpu_list(list.trim())
}

fn parse_cpu_list(list: &str) -> Option<BTreeSet<usize>> {
    /// More than any machine has.
    const MAX_CPUS: usize = 1 << 16;
    let mut cpus = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse::<usize>().ok()?);
        cpus.extend(first..=last.min(MAX_CPUS));
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// What all ranks have, in words.
fn describe(ranks: &[RankResources]) -> String {
    let hosts = ranks.iter().map(|rank| &rank.host).collect::<BTreeSet<_>>();
    let threads = ranks.iter().map(|rank| rank.threads).collect::<BTreeSet<_>>();
    let devices = ranks.iter().map(|rank| &rank.device).collect::<BTreeSet<_>>();
    let devices = list_first(&devices.into_iter().collect::<Vec<_>>(), 8, ", ");
    let threads = match (threads.first(), threads.last()) {
        (Some(1), Some(1)) => "1 thread".into(),
        (Some(least), Some(most)) if least < most => format!("{least} to {most} threads"),
        (_, most) => format!("{} threads", most.unwrap_or(&1)),
    };
    let mut text = format!(
        "{} ranks on {} host{}: {threads} each, on {devices}",
        ranks.len(),
        hosts.len(),
        if hosts.len() == 1 { "" } else { "s" }
    );
    for host in hosts {
        let local = || of_host(ranks, host);
        let used = local().flat_map(|rank| &rank.cpus).collect::<BTreeSet<_>>().len();
        let online = local().map(|rank| rank.online).max().unwrap_or(used);
        if used < online {
            text += &format!(
                "\nnote: the ranks on {host} may use {used} of its {online} CPUs; `mpirun --bind-to none` \
                 lets them use all"
            );
            break;
        }
    }
    text
}

fn of_host<'a>(
    ranks: &'a [RankResources],
    host: &'a str,
) -> impl Iterator<Item = &'a RankResources> {
    ranks.iter().filter(move |rank| rank.host == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &str) -> BTreeSet<usize> {
        parse_cpu_list(list).unwrap()
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpus("0-2,8").into_iter().collect::<Vec<_>>(), [0, 1, 2, 8]);
        assert_eq!(parse_cpu_list("0-x"), None);
        assert_eq!(parse_cpu_list(""), None);
    }

    #[test]
    fn ranks_share_the_cpus_that_they_may_use() {
        let all = cpus("0-7");
        // Not bound: the ranks divide all.
        assert_eq!(thread_share(&all, &[&all, &all], 8), 4);
        assert_eq!(thread_share(&all, &[&all; 3], 8), 2);
        assert_eq!(thread_share(&all, &[&all; 9], 8), 1);
        // Bound to one CPU each, and to sockets.
        assert_eq!(thread_share(&cpus("1"), &[&cpus("0"), &cpus("1")], 1), 1);
        let (first, second) = (cpus("0-3"), cpus("4-7"));
        assert_eq!(thread_share(&first, &[&first, &second, &first, &second], 4), 2);
        // A container may use half of the CPUs that it sees.
        assert_eq!(thread_share(&all, &[&all, &all], 4), 2);
    }

    #[test]
    fn the_resources_of_all_ranks_are_told_in_a_line() {
        let rank = |host: &str, list: &str, threads, device: &str| RankResources {
            host: host.into(),
            cpus: cpus(list),
            online: 8,
            threads,
            device: device.into(),
        };
        let two = [rank("a", "0-7", 4, "wgpu:0"), rank("a", "0-7", 4, "wgpu:1")];
        assert_eq!(describe(&two), "2 ranks on 1 host: 4 threads each, on wgpu:0, wgpu:1");
        let bound = [rank("a", "0", 1, "flex"), rank("b", "0-7", 8, "flex")];
        assert_eq!(
            describe(&bound),
            "2 ranks on 2 hosts: 1 to 8 threads each, on flex\nnote: the ranks on a may use 1 of its 8 \
             CPUs; `mpirun --bind-to none` lets them use all"
        );
    }
}
