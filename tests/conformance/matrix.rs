//! All combinations of an algorithm and the options that a rule may add to it: the
//! properties that all of them share.

use std::collections::BTreeMap;

use super::*;

/// A limit of three, in all valid combinations.
fn combinations() -> Vec<String> {
    let hour = "requests_per_unit: 3, unit: hour";
    let windows = [
        hour,
        "requests_per_unit: 3, unit: hour, unit_multiplier: 2",
        "requests_per_unit: 3, period: 90s",
        "requests_per_unit: 3, unit: hour, phase: 7m",
        "requests_per_unit: 3, unit: hour, phase: spread",
    ];
    let calendars = [
        "requests_per_unit: 3, unit: day, calendar: {time_zone: Europe/Berlin}",
        "requests_per_unit: 3, unit: week, calendar: {time_zone: Asia/Tokyo, first_day: 7}",
        "requests_per_unit: 3, unit: month, calendar: {time_zone: America/New_York, first_day: 15}",
    ];
    let mut limits = Vec::new();
    for window in [&windows[..], &calendars].concat() {
        limits.push(window.to_owned());
        limits.push(format!("{window}, count_denied: false"));
        if windows.contains(&window) {
            limits.push(format!("{window}, algorithm: sliding_window"));
        }
    }
    for window in &windows[..3] {
        limits.push(format!("{window}, algorithm: sliding_log"));
        limits.push(format!("{window}, algorithm: token_bucket"));
        limits.push(format!("{window}, algorithm: leaky_bucket, burst: 3"));
    }
    let mut limits = with_each(&limits, ["", ", penalty: 20m"]);
    limits.push("requests_per_unit: 3, algorithm: concurrency, lease: 30s".into());
    with_each(&limits, ["", ", consume: all_or_nothing"])
}

/// Each limit with each of the options.
fn with_each(limits: &[String], options: [&str; 2]) -> Vec<String> {
    let mut all = Vec::new();
    for limit in limits {
        for option in options {
            all.push(format!("{limit}{option}"));
        }
    }
    all
}

fn case(limit: &str, step: &str) -> Case {
    let rules = format!(
        "domain: d\ndescriptors:\n- key: k\n  rate_limit: {{{limit}}}\n\
         - {{key: other, rate_limit: {{requests_per_unit: 0, unit: hour}}}}\n"
    );
    Case {
        rules: BTreeMap::from([(step.to_owned(), rules)]),
        settings: CaseSettings::default(),
        start: noon() + 13,
        play: Vec::new(),
        statistics: None,
    }
}

struct CombinationTest {
    client: RateLimitServiceClient<Channel>,
    clock: Arc<ManualClock>,
    limit: String,
}

impl CombinationTest {
    async fn new<S: Store>(limit: &str, store: S) -> Self {
        let case = case(limit, "rules");
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(case.start)));
        let service = Arc::new(service(limit, &case, store, Arc::clone(&clock)));
        Self { client: serve(service).await, clock, limit: limit.to_owned() }
    }

    /// The status of the first descriptor, and whether the request passes.
    async fn decide(&mut self, descriptors: &str) -> (DescriptorStatus, bool) {
        let descriptors = super::descriptors(descriptors);
        let request = RateLimitRequest { domain: "d".into(), descriptors, hits_addend: 0 };
        let response = self.client.should_rate_limit(request).await.unwrap().into_inner();
        let passes = response.overall_code() == Code::Ok;
        (response.statuses[0].clone(), passes)
    }

    async fn expect(&mut self, descriptors: &str, passes: bool, remaining: u32) {
        let (status, passed) = self.decide(descriptors).await;
        let found = (passed, status.limit_remaining);
        assert_eq!(found, (passes, remaining), "{}: {descriptors}", self.limit);
    }

    async fn run(mut self) {
        // Exactly the limit passes. Looks change nothing.
        for remaining in [2, 1, 0] {
            self.expect("k=a hits 0", true, remaining + 1).await;
            self.expect("k=a", true, remaining).await;
        }
        self.expect("k=a hits 0", true, 0).await;
        let (refused, passed) = self.decide("k=a").await;
        assert!(!passed, "{}", self.limit);
        // The request passes exactly after the wait in the answer.
        let wait = refused.duration_until_reset.expect("it will pass").seconds;
        assert!(wait > 0, "{}", self.limit);
        self.clock.advance(Duration::from_secs(wait.unsigned_abs() - 1));
        if !self.limit.contains("penalty") {
            // With a penalty, an early request would start another ban.
            assert!(!self.decide("k=a").await.1, "{}: {wait} - 1", self.limit);
        }
        self.clock.advance(Duration::from_secs(1));
        assert!(self.decide("k=a").await.1, "{}: {wait}", self.limit);
        // Refunded hits are available again, and no others.
        self.expect("k=b hits 2", true, 1).await;
        self.expect("k=b refund 1", true, 2).await;
        self.expect("k=b refund 9", true, 3).await;
        // Another limit refuses the request.
        let kept = if self.limit.contains("all_or_nothing") { 3 } else { 2 };
        self.expect("k=c | other=", false, kept).await;
        self.expect("k=c hits 0", true, kept).await;
        // More hits than the capacity.
        let (status, passed) = self.decide("k=e hits 4").await;
        let counts = !self.limit.contains("count_denied") && !self.limit.contains("algorithm");
        let says_never = status.duration_until_reset.is_none();
        assert_eq!((passed, says_never), (false, !counts), "{}", self.limit);
    }
}

#[tokio::test]
async fn all_combinations_share_the_properties_in_memory() {
    for limit in combinations() {
        CombinationTest::new(&limit, Memory::new(10_000)).await.run().await;
    }
}

#[tokio::test]
async fn all_combinations_share_the_properties_in_redis() {
    let server = testkit::redis::RedisServer::start();
    let settings = RedisSettings::parse(&server.url(), None, Duration::from_secs(5)).unwrap();
    for limit in combinations() {
        redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        CombinationTest::new(&limit, Redis::new(&settings)).await.run().await;
    }
}
