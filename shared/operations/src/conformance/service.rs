//! The service under check, called as workers call it.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, header::CONTENT_TYPE, redirect};
use serde_json::json;

use super::{
    address::ServiceUrl,
    answer::{ANSWER_BYTES_MAX, Answer},
    call::Call,
    headers::Headers,
    masks::Masks,
    report::Exchange,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// An HTTP client of one service.
pub(super) struct Service {
    client: Client,
    url: ServiceUrl,
    timeout: Duration,
    masks: Masks,
}

impl Service {
    /// Opens no connection yet.
    pub(super) fn new(
        url: ServiceUrl,
        headers: &Headers,
        timeout: Duration,
        masks: Masks,
    ) -> Result<Self, reqwest::Error> {
        let mut client = Client::builder()
            .default_headers(headers.map().clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy();
        if url.is_plain_http() {
            // Without TLS, a machine without CA certificates is fine.
            client = client.tls_certs_only([]);
        }
        Ok(Self { client: client.build()?, url, timeout, masks })
    }

    /// Sends a call once. Never fails: no answer is an answer too.
    pub(super) async fn send(&self, call: &Call) -> Answer {
        let mut path = call.instance.name();
        if let Some(part) = call.astray {
            path = format!("{part}/{path}");
        }
        let mut request = self.client.request(call.ask.method(), self.url.at(&path));
        if let Some(key) = &call.key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(fence) = call.fence {
            request = request.header("Orderfleet-Fence", fence);
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.bytes.clone());
        }
        self.answer(request, ANSWER_BYTES_MAX).await
    }

    /// Sends dos in one request, once. Never fails either.
    pub(super) async fn send_batch(&self, dos: &[Call]) -> Answer {
        let calls: Vec<_> = dos.iter().map(Call::in_batch).collect();
        let request = self.client.post(self.url.at("batch")).json(&json!({ "calls": calls }));
        self.answer(request, ANSWER_BYTES_MAX * dos.len().max(1)).await
    }

    async fn answer(&self, request: RequestBuilder, bytes_max: usize) -> Answer {
        let began = Instant::now();
        let answer = match request.timeout(self.timeout).send().await {
            Ok(response) => Answer::read(response, bytes_max).await,
            Err(error) => Answer::none(&error, self.timeout),
        };
        Answer { took: began.elapsed(), ..answer }
    }

    /// A call and its answer as they may be shown.
    pub(super) fn exchange(&self, call: &Call, answer: &Answer) -> Exchange {
        let text = match answer.status {
            Some(_) => self.masks.shown(&String::from_utf8_lossy(&answer.body)),
            None => answer.words(),
        };
        Exchange {
            method: call.ask.method().to_string(),
            instance: call.instance.name(),
            astray: call.astray,
            key: call.key.clone(),
            fence: call.fence,
            body: call.body.as_ref().map(|body| body.what),
            status: answer.status.map(|status| status.as_u16()),
            answer: text,
            took_ms: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// A do of a batch and its answer, likewise.
    pub(super) fn exchange_in_batch(&self, call: &Call, answer: &Answer) -> Exchange {
        Exchange { method: Method::POST.to_string(), ..self.exchange(call, answer) }
    }

    /// Foreign text as it may be shown.
    pub(super) fn shown(&self, text: &str) -> String {
        self.masks.shown(text)
    }
}
