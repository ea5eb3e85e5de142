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
    time::{sleep, timeout},
};

use super::{
    access::Access,
    auth::{Auth, Verdict},
    client::{Client, Stage},
    encoding,
    negotiate::Format,
};
use crate::{
    data::Exported,
    output::{exposition::Buckets, page},
};

/// How long an answer may take to be made, on a machine that is very busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Before a client is told that there are too many passwords to look at, so that it does not ask again at once.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// When it is to ask again, in seconds.
const RETRY_AFTER: &str = "5";

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
pub async fn answer<B>(shared: &Shared, client: &Arc<Client>, request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = match route(shared, client, request).await {
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

/// The answer to a client that is not let in, `None` for one that is.
async fn turned_away<B>(shared: &Shared, client: &Arc<Client>, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let current = || shared.access.borrow().auth.clone();
    let mut auth: Option<Arc<Auth>> = current();
    loop {
        let verdict = match &auth {
            None => Verdict::Accepted,
            Some(auth) => auth.judge(given, client).await,
        };
        let now = current();
        match verdict {
            // Users may have changed while the password was looked at.
            Verdict::Accepted if now.as_ref().map(Arc::as_ptr) != auth.as_ref().map(Arc::as_ptr) => auth = now,
            Verdict::Accepted => return None,
            Verdict::Refused => {
                let response = plain(StatusCode::UNAUTHORIZED, "a user and a password are needed\n");
                return Some(with(response, header::WWW_AUTHENTICATE, "Basic realm=\"prefault\", charset=\"UTF-8\""));
            }
            Verdict::Busy => {
                client.reach(Stage::Answered);
                sleep(BUSY_PAUSE).await;
                let response = plain(StatusCode::TOO_MANY_REQUESTS, "too many passwords have to be looked at\n");
                return Some(with(response, header::RETRY_AFTER, RETRY_AFTER));
            }
        }
    }
}

async fn route<B>(shared: &Shared, client: &Arc<Client>, request: &Request<B>) -> Result<Response<Full<Bytes>>> {
    if let Some(response) = turned_away(shared, client, request).await {
        return Ok(response);
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
