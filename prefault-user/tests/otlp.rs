//! Pushes to an OpenTelemetry collector: what arrives is what the exposition says.

#![cfg(feature = "otlp")]

#[path = "output/exported.rs"]
mod exported;
#[path = "output/snapshots.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod snapshots;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, metric::Data},
};
use prefault_user::{
    cli::endpoint::Endpoint,
    exporter::otlp::push,
    output::exposition::{FAMILIES, Kind},
};
use prost::Message as _;
use tokio::sync::mpsc;

/// Reads one request and answers it; the result are its head and its body.
fn receive(stream: &mut TcpStream, status: &str) -> (String, Vec<u8>) {
    let mut request = Vec::new();
    let mut buffer = [0; 65536];
    let (end, length) = loop {
        let n_bytes = stream.read(&mut buffer).expect("a request");
        request.extend(&buffer[..n_bytes]);
        let Some(end) = request.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        break (end + 4, length.expect("a length"));
    };
    let mut body = request.split_off(end);
    let mut rest = vec![0; length - body.len()];
    stream.read_exact(&mut rest).expect("the rest");
    body.extend(rest);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").expect("answered");
    (String::from_utf8_lossy(&request).into_owned(), body)
}

/// Metrics of the second push; the first one is refused, which ends nothing.
fn pushed() -> Vec<Metric> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let endpoint: Endpoint = format!("http://{}", listener.local_addr().expect("an address")).parse().expect("right");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let (asks, mut questions) = mpsc::channel(1);
            tokio::spawn(push(endpoint, Duration::from_millis(50), asks));
            let exported = Arc::new(exported::exported(&snapshots::end(), None));
            while let Some(ask) = questions.recv().await {
                let _unused = tokio::sync::oneshot::Sender::send(ask, Ok(Arc::clone(&exported)));
            }
        });
    });
    let (mut first, _) = listener.accept().expect("a push");
    receive(&mut first, "503 Service Unavailable");
    let (mut second, _) = listener.accept().expect("another push");
    let (head, body) = receive(&mut second, "200 OK");
    assert!(head.starts_with("POST /v1/metrics HTTP/1.1\r\n") && head.contains("application/x-protobuf"), "{head}");
    let mut request = ExportMetricsServiceRequest::decode(&*body).expect("a request");
    let mut resource = request.resource_metrics.remove(0);
    resource.scope_metrics.remove(0).metrics
}

#[test]
fn every_metric_arrives_with_its_values() {
    let metrics = pushed();
    assert_eq!(metrics.len(), FAMILIES.len());
    let exported = exported::exported(&snapshots::end(), None);
    for (metric, family) in metrics.iter().zip(FAMILIES.iter()) {
        assert!(family.name.starts_with(&metric.name), "{} and {}", metric.name, family.name);
        let n_samples = family.samples(&exported).len();
        match metric.data.as_ref().expect("data") {
            Data::Sum(sum) => {
                assert_eq!((family.kind(), sum.is_monotonic, sum.data_points.len()), (Kind::Counter, true, n_samples));
            }
            Data::Gauge(gauge) => assert_eq!(gauge.data_points.len(), n_samples),
            Data::ExponentialHistogram(histogram) => {
                assert_eq!((family.kind(), histogram.data_points.len()), (Kind::Histogram, n_samples));
                for point in &histogram.data_points {
                    let buckets = point.positive.as_ref().expect("buckets");
                    assert_eq!((point.scale, buckets.bucket_counts.iter().sum::<u64>()), (2, point.count));
                }
            }
            Data::Histogram(histogram) => {
                assert_eq!((family.kind(), histogram.data_points.len()), (Kind::Histogram, n_samples));
                for point in &histogram.data_points {
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}
