//! Answers to requests: the metrics, the start page, and whether the exporter is well.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, anyhow};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{access::Access, encoding, negotiate::Format};
use crate::{
    data::Exported,
    output::{exposition::Buckets, page},
};

/// How long an answer may take to be made, on a machine that is very busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Scripts and foreign content have no place on the start page.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

const PLAIN: &str = "text/plain; charset=utf-8";

/// A question for what there is to export now, with the place for the answer.
pub type Ask = oneshot::Sender<Result<Arc<Exported>, String>>;

/// What all connections share.
pub struct Shared {
    /// Where to ask for what there is to export.
    pub asks: mpsc::Sender<Ask>,
    /// How connections are taken and who may ask.
    pub access: watch::Receiver<Access>,
    /// Bounds of the classic histograms.
    pub buckets: Buckets,
}

/// Asks for what there is to export now.
///
/// # Errors
/// If counters went backwards, or there is no answer in time.
pub async fn exported(asks: &mpsc::Sender<Ask>) -> Result<Arc<Exported>> {
    let (ask, answer) = oneshot::channel();
    let exported = async {
        asks.send(ask).await?;
        answer.await?.map_err(|error| anyhow!("failed to sum up the counters: {error}"))
    };
    timeout(ANSWER_LIMIT, exported).await?
}

/// Answers one request. Its body, if it has one, is not read.
pub async fn answer<B>(shared: &Shared, request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = match route(shared, request).await {
        Ok(response) => response,
        Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("prefault: {error:#}\n")),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let more = Arc::clone(&shared.access.borrow().headers);
    for (name, value) in more.iter() {
        headers.insert(name, value.clone());
    }
    response
}

async fn route<B>(shared: &Shared, request: &Request<B>) -> Result<Response<Full<Bytes>>> {
    let auth = shared.access.borrow().auth.clone();
    if let Some(auth) = auth {
        let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        if !auth.accepts(given).await {
            let response = plain(StatusCode::UNAUTHORIZED, "a user and a password are needed\n");
            return Ok(with(response, header::WWW_AUTHENTICATE, "Basic realm=\"prefault\", charset=\"UTF-8\""));
        }
    }
    // hyper leaves the body out where the method is HEAD.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        return Ok(with(response, header::ALLOW, "GET, HEAD"));
    }
    match request.uri().path() {
        "/metrics" => {
            let format = Format::wanted(&all(request, &header::ACCEPT));
            let body = format.encode(&exported(&shared.asks).await?, &shared.buckets)?;
            let response = with(encoded(request, body)?, header::CONTENT_TYPE, format.content_type());
            Ok(with(response, header::VARY, "accept, accept-encoding"))
        }
        "/" => {
            let page = page::page(&*exported(&shared.asks).await?);
            let response = with(encoded(request, page.into())?, header::CONTENT_TYPE, "text/html; charset=utf-8");
            let response = with(response, header::VARY, "accept-encoding");
            Ok(with(response, header::CONTENT_SECURITY_POLICY, CONTENT_POLICY))
        }
        "/-/healthy" => Ok(plain(StatusCode::OK, "healthy\n")),
        "/-/ready" => exported(&shared.asks).await.map(|_| plain(StatusCode::OK, "ready\n")),
        _ => Ok(plain(StatusCode::NOT_FOUND, "there are /, /metrics, /-/healthy and /-/ready\n")),
    }
}

/// All values of a header, as one list.
fn all<B>(request: &Request<B>, name: &HeaderName) -> String {
    let values: Vec<_> = request.headers().get_all(name).iter().flat_map(|value| value.to_str()).collect();
    values.join(",")
}

/// An answer with this content, compressed if the client wants that.
fn encoded<B>(request: &Request<B>, content: Bytes) -> Result<Response<Full<Bytes>>> {
    if !encoding::gzip_is_wanted(&all(request, &header::ACCEPT_ENCODING)) {
        return Ok(Response::new(Full::new(content)));
    }
    let response = Response::new(Full::new(encoding::gzip(&content)?.into()));
    Ok(with(response, header::CONTENT_ENCODING, "gzip"))
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    with(response, header::CONTENT_TYPE, PLAIN)
}

fn with(mut response: Response<Full<Bytes>>, name: HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
