//! Reports in the XML format of JUnit, as CI servers read it.

use std::fmt::Write;

use super::SuiteResult;
use crate::printable::is_unprintable;

pub(super) fn report(suites: &[SuiteResult]) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    for suite in suites {
        let (file, tests) = (escape(&suite.file), suite.tests.len());
        let failures = suite.failures();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{file}\" tests=\"{tests}\" failures=\"{failures}\">"
        );
        for test in &suite.tests {
            let name = escape(&test.name);
            let _ = write!(xml, "    <testcase name=\"{name}\" classname=\"{file}\"");
            if test.failures.is_empty() {
                xml += "/>\n";
                continue;
            }
            xml += ">\n      <failure message=\"the answer is not the expected one\">\n";
            let _ = writeln!(xml, "{file}:{}", test.line);
            for failure in &test.failures {
                let _ = writeln!(xml, "{}", escape(&failure.to_string()));
            }
            xml += "      </failure>\n    </testcase>\n";
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

/// Escapes text for attributes and elements. XML has no control characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' => escaped.push('\n'),
            control if is_unprintable(control) => escaped.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
