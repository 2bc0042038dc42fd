//! Metrics as text: OpenMetrics, or the older format of Prometheus for those who do not ask for it.

/// The media type of OpenMetrics.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of the format of Prometheus.
pub(crate) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// OpenMetrics text in the format of Prometheus.
///
/// Samples are the same in both. A family that OpenMetrics names without the suffix of its samples has their name in
/// Prometheus; `# UNIT` and `# EOF` do not exist there.
pub(crate) fn prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // It comes before the type, on which the name in it depends.
    let mut help = None;
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), about) => help = Some(about.unwrap_or_default()),
            (Some("#"), Some("TYPE"), Some(family), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                if let Some(about) = help.take() {
                    text += &format!("# HELP {family}{suffix} {about}\n");
                }
                text += &format!("# TYPE {family}{suffix} {kind}\n");
            }
            (Some("#"), ..) => {}
            _ => {
                text += line;
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_prometheus_names_them_and_samples_stay() {
        let openmetrics = "# HELP a Events of a # kind.\n# TYPE a counter\na_total{t=\"# EOF\"} 1\n\
                           # HELP b About b.\n# TYPE b histogram\n# UNIT b seconds\nb_sum 0.5\nb_count 1\n\
                           # HELP c About c.\n# TYPE c info\nc_info{v=\"1\"} 1\n# TYPE d gauge\nd 2\n# EOF\n";
        let expected = "# HELP a_total Events of a # kind.\n# TYPE a_total counter\na_total{t=\"# EOF\"} 1\n\
                        # HELP b About b.\n# TYPE b histogram\nb_sum 0.5\nb_count 1\n\
                        # HELP c_info About c.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n# TYPE d gauge\nd 2\n";
        assert_eq!(prometheus(openmetrics), expected);
    }
}
