//! Elects the master from the reports of several Sentinels.
//!
//! Sentinels do not learn of a failover at the same time, and one of them may be partitioned,
//! or monitor another master of the same name. So a single report does not count against
//! others: the address in most of the reports wins. A former master wins again only if most of
//! all Sentinels report it.

use super::settings::RedisAddress;

/// The master according to one Sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MasterReport {
    /// The number of the latest failover that the Sentinel knows.
    pub(super) epoch: u64,
    pub(super) address: RedisAddress,
    /// A failover is in progress, and this may be the address of the former master.
    pub(super) is_outdated: bool,
}

/// The result of the last vote.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current<'a> {
    pub(super) report: Option<&'a MasterReport>,
    /// There is a working connection to it.
    pub(super) is_connected: bool,
}

/// The votes for one address.
#[derive(Clone, Copy)]
struct Votes {
    count: usize,
    /// The latest epoch of these reports.
    epoch: u64,
}

fn votes_for(reports: &[&MasterReport], address: &RedisAddress) -> Votes {
    let mut votes = Votes { count: 0, epoch: 0 };
    for report in reports {
        if report.address == *address {
            votes.count += 1;
            votes.epoch = votes.epoch.max(report.epoch);
        }
    }
    votes
}

fn up_to_date<'a>(reports: impl Iterator<Item = &'a MasterReport>) -> Vec<&'a MasterReport> {
    reports.filter(|report| !report.is_outdated).collect()
}

/// Returns whether more than half of `sentinels` report the same address, so that the other
/// replies cannot change the result. The replies are reports with the index of the Sentinel.
pub(super) fn has_majority(replies: &[(usize, MasterReport)], sentinels: usize) -> bool {
    let reports = up_to_date(replies.iter().map(|(_, report)| report));
    reports.iter().any(|report| sentinels < 2 * votes_for(&reports, &report.address).count)
}

/// Returns the elected report, or `None` if there are no reports.
///
/// An address with more than half of the reports wins; then the latest epoch; then the most
/// votes; then the current master. An outdated report counts only if all are outdated. The
/// current master is kept, unless more than half of all `sentinels` report another one, or a
/// later epoch shows a failover and there is no connection.
pub(super) fn elect(
    reports: &[MasterReport],
    sentinels: usize,
    current: Current<'_>,
) -> Option<MasterReport> {
    let mut counted = up_to_date(reports.iter());
    if counted.is_empty() {
        counted = reports.iter().collect();
    }
    let mut best: Option<(_, Votes, &MasterReport)> = None;
    for report in &counted {
        let votes = votes_for(&counted, &report.address);
        let has_most = counted.len() < 2 * votes.count;
        let is_current = current.report.is_some_and(|current| current.address == report.address);
        let rank = (has_most, votes.epoch, votes.count, is_current);
        if best.is_none_or(|(best_rank, ..)| best_rank < rank) {
            best = Some((rank, votes, *report));
        }
    }
    let (_, votes, report) = best?;
    if let Some(held) = current.report
        && held.address != report.address
        && (current.is_connected || votes.epoch <= held.epoch)
        && 2 * votes.count <= sentinels
    {
        return Some(held.clone());
    }
    Some(MasterReport { epoch: votes.epoch, ..report.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(epoch: u64, host: &str) -> MasterReport {
        let address = RedisAddress::Tcp { host: host.trim_end_matches('!').into(), port: 1 };
        MasterReport { epoch, address, is_outdated: host.ends_with('!') }
    }

    /// `reports` are as in `2 new, 1 old, 2 old!`: epoch, address, and `!` if outdated. A `+`
    /// after `current` is a connection to it.
    #[track_caller]
    fn check(reports: &str, sentinels: usize, current: &str, expected: &str) {
        let parse = |text: &str| {
            let (epoch, host) = text.trim().split_once(' ').unwrap();
            report(epoch.parse().unwrap(), host)
        };
        let reports: Vec<_> = reports.split(',').map(parse).collect();
        let held = match current {
            "" => None,
            current => Some(parse(current.trim_end_matches('+'))),
        };
        let mut orders = [reports.clone(), reports];
        orders[1].reverse();
        for reports in orders {
            let current = Current { report: held.as_ref(), is_connected: current.contains('+') };
            let elected = elect(&reports, sentinels, current).unwrap();
            assert_eq!(elected.address, report(0, expected).address, "{reports:?}, {current:?}");
        }
    }

    #[test]
    fn the_address_in_most_reports_is_elected() {
        check("1 old, 1 old, 1 old", 3, "", "old");
        check("2 new, 2 new, 1 old", 3, "1 old", "new");
        // The others do not know of the failover yet.
        check("2 new, 1 old, 1 old", 3, "1 old", "old");
        // One Sentinel monitors another master.
        check("9 other, 2 new, 2 new", 3, "2 new", "new");
        check("9 other, 2 new, 2 new", 3, "", "new");
        check("9 other, 2 new", 3, "2 new", "other");
    }

    #[test]
    fn an_outdated_report_does_not_count_for_the_former_master() {
        check("1 old!, 1 new, 1 new", 3, "0 old", "new");
        check("1 old!, 1 new", 3, "1 new", "new");
        check("1 old!, 1 new", 3, "0 old", "new");
        check("1 old!", 1, "0 old", "old");
        check("1 old!", 3, "1 new", "new");
    }

    #[test]
    fn in_a_tie_the_latest_epoch_is_elected_and_then_the_current_master() {
        check("1 old, 2 new", 3, "1 old", "new");
        check("1 old, 2 new", 2, "", "new");
        check("1 a, 1 b", 2, "1 a", "a");
        check("1 a, 1 b", 2, "1 b", "b");
        check("1 a, 1 b, 1 c", 3, "1 b", "b");
    }

    #[test]
    fn a_former_master_is_elected_only_by_a_majority_of_all_sentinels() {
        check("1 old", 3, "2 new", "new");
        check("1 old, 2 new", 3, "2 new", "new");
        check("1 old, 1 old, 2 new", 3, "2 new", "old");
        check("2 old", 3, "2 new", "new");
        check("3 old", 3, "2 new", "old");
        // The Sentinels have lost their state.
        check("0 old, 0 old", 3, "2 new", "old");
        check("0 old", 1, "2 new", "old");
    }

    #[test]
    fn a_connected_master_is_replaced_only_by_a_majority_of_all_sentinels() {
        check("2 new, 2 new, 1 old", 3, "1 old+", "new");
        check("2 new, 2 new", 3, "1 old+", "new");
        check("2 new, 1 old", 3, "1 old+", "old");
        check("2 new", 3, "1 old+", "old");
        check("2 new", 3, "1 old", "new");
        check("2 new", 1, "1 old+", "new");
        check("9 other, 2 new", 3, "2 new+", "new");
    }

    #[test]
    fn a_majority_does_not_wait_for_the_other_replies() {
        let replies = |hosts: &[&str]| -> Vec<_> {
            hosts.iter().map(|host| report(1, host)).enumerate().collect()
        };
        assert!(!has_majority(&replies(&["a"]), 3));
        assert!(!has_majority(&replies(&["a", "b"]), 3));
        assert!(!has_majority(&replies(&["a!", "a!"]), 3));
        assert!(has_majority(&replies(&["a", "b", "a"]), 3));
        assert!(has_majority(&replies(&["a"]), 1));
    }
}
