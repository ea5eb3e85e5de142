//! The text format 0.0.4, made of OpenMetrics: metadata has the names of samples, and there are no units, info metrics and
//! end marks (https://prometheus.io/docs/instrumenting/exposition_formats/).

/// Turns OpenMetrics text of this tool into the older format.
pub fn from_openmetrics(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // The help of a metric comes before its type, on which its name depends.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(of_name) = line.strip_prefix("# HELP ") {
            help = of_name.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, help)) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_gets_the_names_of_samples() {
        let openmetrics = "# HELP a_bytes A.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{x=\"#\"} 1\n\
                           # HELP b B.\n# TYPE b info\nb_info{x=\"y\"} 1\n# HELP c C.\n# TYPE c gauge\nc 1\n# EOF\n";
        let text = "# HELP a_bytes_total A.\n# TYPE a_bytes_total counter\na_bytes_total{x=\"#\"} 1\n\
                    # HELP b_info B.\n# TYPE b_info gauge\nb_info{x=\"y\"} 1\n# HELP c C.\n# TYPE c gauge\nc 1\n";
        assert_eq!(from_openmetrics(openmetrics), text);
    }
}
