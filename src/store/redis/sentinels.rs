//! Which server is the master, by what several Sentinels say.
//!
//! They do not learn of a failover at the same time, and one of them may have been cut
//! off, or guard another master under the same name. So none decides alone as long as
//! others contradict: the address that most of those name who answer is used, and one
//! that was left is not gone back to unless most of all of them name it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::{Pipeline, Value, from_redis_value};
use tokio::time::timeout;

use super::{complaints::words, connection::Link, settings::RedisAddress, target::Access};

/// How long the other Sentinels have once one has answered, unless what they say cannot
/// matter any more.
const OTHERS: Duration = Duration::from_millis(500);

/// After how many questions without an answer another connection is made to a Sentinel.
const SILENT: u32 = 10;

/// Who knows which server is the master.
#[derive(Debug)]
pub(super) struct Sentinels {
    master: String,
    access: Access,
    sentinels: Vec<Sentinel>,
    /// What was found last.
    held: Option<View>,
}

#[derive(Debug)]
struct Sentinel {
    address: RedisAddress,
    link: Option<Arc<Link>>,
    /// How often it has been asked since it answered.
    unanswered: u32,
}

/// What one of them says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    /// The number of the latest failover that it knows.
    epoch: u64,
    /// Where the master is.
    address: RedisAddress,
    /// Whether the address may be that of the master before: it is about to be another.
    outdated: bool,
}

impl Sentinels {
    pub(super) fn new(master: String, access: Access, sentinels: &[RedisAddress]) -> Self {
        let sentinel = |address: &RedisAddress| {
            let address = address.clone();
            Sentinel { address, link: None, unanswered: 0 }
        };
        let sentinels = sentinels.iter().map(sentinel).collect();
        Self { master, access, sentinels, held: None }
    }

    /// What they call the master.
    pub(super) fn master(&self) -> &str {
        &self.master
    }

    /// Where the master is. All Sentinels are asked at the same time, as any may be cut
    /// off from the others; those that are silent are waited for only while what they
    /// say may decide. `connected` says that there is no need for another master.
    pub(super) async fn find(
        &mut self,
        patience: Duration,
        connected: bool,
    ) -> Result<RedisAddress, String> {
        let Self { master, access, sentinels, held } = self;
        let all = sentinels.len();
        // Less than the patience with the whole attempt to connect.
        let patience = patience / 2;
        let asked = sentinels.iter_mut().enumerate().map(async |(place, it)| {
            let answer = timeout(patience, it.ask(access, master)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")));
            (place, answer.map_err(|why| format!("{}: {why}", it.address)))
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut views, mut errors) = (Vec::new(), Vec::new());
        while !is_settled(&views, all) {
            let next = match views.is_empty() {
                true => asked.next().await,
                false => timeout(OTHERS, asked.next()).await.unwrap_or_default(),
            };
            match next {
                Some((place, Ok(view))) => views.push((place, view)),
                Some((_, Err(why))) => errors.push(why),
                None => break,
            }
        }
        // Not in the order in which they have answered.
        views.sort_by_key(|(place, _)| *place);
        let views: Vec<_> = views.into_iter().map(|(_, view)| view).collect();
        let nobody = || format!("no Sentinel knows it ({})", errors.join("; "));
        let held = Held { view: held.as_ref(), connected };
        let view = choose(&views, all, held).ok_or_else(nobody)?;
        let address = view.address.clone();
        self.held = Some(view);
        Ok(address)
    }
}

/// How many of `views` name an address, and the latest failover that one of them knows.
fn support<'a>(views: impl Iterator<Item = &'a View>, address: &RedisAddress) -> (usize, u64) {
    let epochs = views.filter(|it| it.address == *address).map(|it| it.epoch);
    epochs.fold((0, 0), |(count, latest), epoch| (count + 1, latest.max(epoch)))
}

/// Whether more than half of `all` agree, so that the others do not matter.
fn is_settled(views: &[(usize, View)], all: usize) -> bool {
    let views = || views.iter().map(|(_, view)| view).filter(|it| !it.outdated);
    views().any(|it| all < 2 * support(views(), &it.address).0)
}

/// What was found before.
#[derive(Clone, Copy, Debug)]
struct Held<'a> {
    view: Option<&'a View>,
    /// Whether it is used.
    connected: bool,
}

/// Where the master is if those of `all` Sentinels who answer say so. What most say
/// counts; where there is no most, the latest failover; and at last what was held. A
/// connection is only left if most of all say so.
fn choose(views: &[View], all: usize, held: Held<'_>) -> Option<View> {
    let Held { view: held, connected } = held;
    let is_certain = |it: &&View| !it.outdated;
    let certain = views.iter().any(|it| is_certain(&it));
    let views = || views.iter().filter(move |it| !certain || is_certain(it));
    let is_held = |address: &RedisAddress| held.is_some_and(|it| it.address == *address);
    let mut best: Option<((bool, u64, usize, bool), View)> = None;
    for view in views() {
        let (count, epoch) = support(views(), &view.address);
        let most = views().count() < 2 * count;
        let rank = (most, epoch, count, is_held(&view.address));
        if best.as_ref().is_none_or(|(it, _)| *it < rank) {
            best = Some((rank, View { epoch, ..view.clone() }));
        }
    }
    let ((_, epoch, count, _), view) = best?;
    match held {
        // It was the master before, or somebody knows less: as after a failover of which
        // only those know who do not answer now.
        Some(held)
            if held.address != view.address
                && (connected || epoch <= held.epoch)
                && 2 * count <= all =>
        {
            Some(held.clone())
        }
        _ => Some(view),
    }
}

impl Sentinel {
    /// What it says of `master`. If this is not waited for, the connection stays.
    async fn ask(&mut self, access: &Access, master: &str) -> Result<View, String> {
        self.unanswered += 1;
        let link = match self.link.take().filter(|_| self.unanswered <= SILENT) {
            Some(link) => link,
            None => {
                self.unanswered = 0;
                Arc::new(Link::to(access, &self.address).await?)
            }
        };
        self.link = Some(Arc::clone(&link));
        let answer = Self::about(&link, master).await;
        match &answer {
            Ok(_) => self.unanswered = 0,
            Err(_) => self.link = None,
        }
        answer
    }

    async fn about(link: &Link, master: &str) -> Result<View, String> {
        let mut questions = Pipeline::new();
        questions.cmd("SENTINEL").arg("MASTER").arg(master);
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let answers = link.send_quietly(&questions).await.map_err(|error| words(&error))?;
        let mut answers = answers.into_iter();
        let about = answers.next().unwrap_or(Value::Nil);
        View::of(about, answers.next().unwrap_or(Value::Nil))
    }
}

impl View {
    /// By what is known `about` a master, and its `address`. During a failover the
    /// former has the number of the new master with the address of the old one, and
    /// the latter is right; it may be refused, as older versions did not ask for it.
    fn of(about: Value, address: Value) -> Result<Self, String> {
        let about: HashMap<String, String> = match about {
            Value::ServerError(error) => return Err(words(&error.into())),
            about => from_redis_value(about).map_err(|error| error.to_string())?,
        };
        let none = || "the answer names no master".to_owned();
        let number = |name| about.get(name)?.parse::<u64>().ok();
        let place = |host: &str, port: &str| {
            Some(RedisAddress::Tcp { host: host.to_owned(), port: port.parse().ok()? })
        };
        let known = || place(about.get("ip")?, about.get("port")?);
        let epoch = number("config-epoch").ok_or_else(none)?;
        let fails_over = about.get("flags").is_some_and(|it| it.contains("failover_in_progress"));
        let told: Option<(String, String)> = match address {
            Value::Array(pair) if pair.len() == 2 => from_redis_value(Value::Array(pair)).ok(),
            _ => None,
        };
        let told = told.and_then(|(host, port)| place(&host, &port));
        let outdated = told.is_none() && fails_over;
        let address = told.or_else(known).ok_or_else(none)?;
        Ok(Self { epoch, address, outdated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(epoch: u64, host: &str) -> View {
        let address = RedisAddress::Tcp { host: host.trim_end_matches('!').into(), port: 1 };
        View { epoch, address, outdated: host.ends_with('!') }
    }

    /// `views` are as in `2 new, 1 old, 2 old!`, the last of a leader that has not
    /// finished. What is held is connected to if there is a `+`.
    #[track_caller]
    fn check(views: &str, all: usize, held_by: &str, expected: &str) {
        let one = |text: &str| {
            let (epoch, host) = text.trim().split_once(' ').unwrap();
            view(epoch.parse().unwrap(), host)
        };
        let views: Vec<_> = views.split(',').map(one).collect();
        let held = (!held_by.is_empty()).then(|| one(held_by.trim_end_matches('+')));
        let mut orders = [views.clone(), views];
        orders[1].reverse();
        for views in orders {
            let held = Held { view: held.as_ref(), connected: held_by.contains('+') };
            let found = choose(&views, all, held).unwrap();
            assert_eq!(found.address, view(0, expected).address, "{views:?}, {held:?}");
        }
    }

    #[test]
    fn the_address_that_most_name_is_chosen() {
        check("1 old, 1 old, 1 old", 3, "", "old");
        check("2 new, 2 new, 1 old", 3, "1 old", "new");
        // Soon the others will know, too.
        check("2 new, 1 old, 1 old", 3, "1 old", "old");
        // One that guards another master.
        check("9 other, 2 new, 2 new", 3, "2 new", "new");
        check("9 other, 2 new, 2 new", 3, "", "new");
        check("9 other, 2 new", 3, "2 new", "other");
    }

    #[test]
    fn a_leader_that_has_not_finished_is_no_witness_for_the_old_master() {
        check("1 old!, 1 new, 1 new", 3, "0 old", "new");
        check("1 old!, 1 new", 3, "1 new", "new");
        check("1 old!, 1 new", 3, "0 old", "new");
        check("1 old!", 1, "0 old", "old");
        check("1 old!", 3, "1 new", "new");
    }

    #[test]
    fn where_as_many_say_either_the_latest_counts_and_then_what_was_held() {
        check("1 old, 2 new", 3, "1 old", "new");
        check("1 old, 2 new", 2, "", "new");
        check("1 a, 1 b", 2, "1 a", "a");
        check("1 a, 1 b", 2, "1 b", "b");
        check("1 a, 1 b, 1 c", 3, "1 b", "b");
    }

    #[test]
    fn what_was_left_is_gone_back_to_only_if_most_of_all_say_so() {
        check("1 old", 3, "2 new", "new");
        check("1 old, 2 new", 3, "2 new", "new");
        check("1 old, 1 old, 2 new", 3, "2 new", "old");
        check("2 old", 3, "2 new", "new");
        check("3 old", 3, "2 new", "old");
        // They have been set up again.
        check("0 old, 0 old", 3, "2 new", "old");
        check("0 old", 1, "2 new", "old");
    }

    #[test]
    fn a_connection_is_left_only_if_most_of_all_say_so() {
        check("2 new, 2 new, 1 old", 3, "1 old+", "new");
        check("2 new, 2 new", 3, "1 old+", "new");
        check("2 new, 1 old", 3, "1 old+", "old");
        check("2 new", 3, "1 old+", "old");
        check("2 new", 3, "1 old", "new");
        check("2 new", 1, "1 old+", "new");
        check("9 other, 2 new", 3, "2 new+", "new");
    }

    #[test]
    fn the_others_are_not_waited_for_once_most_agree() {
        let views =
            |hosts: &[&str]| -> Vec<_> { hosts.iter().map(|it| view(1, it)).enumerate().collect() };
        assert!(!is_settled(&views(&["a"]), 3));
        assert!(!is_settled(&views(&["a", "b"]), 3));
        assert!(!is_settled(&views(&["a!", "a!"]), 3));
        assert!(is_settled(&views(&["a", "b", "a"]), 3));
        assert!(is_settled(&views(&["a"]), 1));
    }
}
