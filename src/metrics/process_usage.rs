//! The resources that the process uses, under the names that all Prometheus libraries give
//! them. They are read from the system whenever the page is shown.

use prometheus::proto::{
    MetricFamily,
    MetricType::{COUNTER, GAUGE},
};

use super::definition::family;

/// One reading of the system.
struct Usage {
    cpu_seconds: f64,
    open_files: f64,
    max_files: Option<f64>,
    virtual_bytes: f64,
    resident_bytes: f64,
    start_seconds: f64,
    threads: f64,
}

/// The statistics of the process; none if the system does not tell them.
pub(super) fn families() -> Vec<MetricFamily> {
    let Some(usage) = read() else { return Vec::new() };
    let mut families = vec![
        family(
            "process_cpu_seconds_total",
            "CPU time that the process has used, in seconds.",
            COUNTER,
            usage.cpu_seconds,
        ),
        family("process_open_fds", "Open files and sockets.", GAUGE, usage.open_files),
        family(
            "process_virtual_memory_bytes",
            "Virtual memory, in bytes.",
            GAUGE,
            usage.virtual_bytes,
        ),
        family(
            "process_resident_memory_bytes",
            "Memory in use, in bytes. Compare it with the memory limit of the container.",
            GAUGE,
            usage.resident_bytes,
        ),
        family(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970. It changes if the process restarts.",
            GAUGE,
            usage.start_seconds,
        ),
        family("process_threads", "Threads of the process.", GAUGE, usage.threads),
    ];
    if let Some(max_files) = usage.max_files {
        let help = "Most open files and sockets that the system allows.";
        families.push(family("process_max_fds", help, GAUGE, max_files));
    }
    families
}

#[cfg(target_os = "linux")]
fn read() -> Option<Usage> {
    use procfs::process::{LimitValue, Process};

    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let max_files = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(files) => Some(as_f64(files)),
        LimitValue::Unlimited => None,
    };
    let ticks = as_f64(procfs::ticks_per_second());
    let boot = as_f64(procfs::boot_time_secs().ok()?);
    Some(Usage {
        cpu_seconds: as_f64(stat.utime + stat.stime) / ticks,
        open_files: as_f64(u64::try_from(process.fd_count().ok()?).ok()?),
        max_files,
        virtual_bytes: as_f64(stat.vsize),
        resident_bytes: as_f64(stat.rss.saturating_mul(procfs::page_size())),
        start_seconds: boot + as_f64(stat.starttime) / ticks,
        threads: as_f64(u64::try_from(stat.num_threads).ok()?),
    })
}

#[cfg(not(target_os = "linux"))]
fn read() -> Option<Usage> {
    None
}

#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "Prometheus has only f64")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
