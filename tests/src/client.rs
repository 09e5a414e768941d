//! A shop's view of the fleet: posting orders and reading them.

use reqwest::{RequestBuilder, Response, header::HeaderMap};
use serde_json::Value;

use crate::until;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When the connection is lost on the way.
    pub async fn read(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    /// The body as JSON, null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A header's text, empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The last part of a problem's type, empty if it is no problem.
    #[must_use]
    pub fn problem(&self) -> String {
        let problem = self.json();
        let kind = problem["type"].as_str().unwrap_or_default();
        kind.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// One account's client.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) producer_urls: Vec<String>,
    pub(crate) query_url: String,
    /// The account's API key.
    pub key: String,
}

impl Client {
    /// The same client with another API key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// A `POST /v1/orders` to one of the producers, with nothing in it yet.
    pub fn request(&self, producer: usize) -> RequestBuilder {
        self.http.post(format!("{}/v1/orders", self.producer_urls[producer]))
    }

    /// A request to a path of the first producer.
    pub fn request_path(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.producer_urls[0]))
    }

    /// Posts an order to one of the producers.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_post(&self, producer: usize, key: &str, order: &Value) -> reqwest::Result<Answer> {
        let request = self.request(producer).bearer_auth(&self.key).header("Idempotency-Key", key);
        Answer::read(request.json(order).send().await?).await
    }

    /// Posts an order to the first producer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, key: &str, order: &Value) -> Answer {
        self.try_post(0, key, order).await.unwrap()
    }

    /// Posts an order that must be accepted, and returns its id.
    ///
    /// # Panics
    /// When the answer is not a 202, once it is no 503 that asks to repeat.
    pub async fn accept(&self, key: &str, order: &Value) -> String {
        let answer = until(&format!("an answer for {key}"), async || {
            let answer = self.post(key, order).await;
            if answer.status == 503 { Err(answer.text) } else { Ok(answer) }
        })
        .await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["order_id"].as_str().unwrap().to_owned()
    }

    /// Asks the first producer to cancel an order.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_cancel(&self, id: &str) -> reqwest::Result<Answer> {
        let path = format!("/v1/orders/{id}/cancel");
        let request = self.request_path(reqwest::Method::POST, &path).bearer_auth(&self.key);
        Answer::read(request.send().await?).await
    }

    /// As [`Client::try_cancel`].
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn cancel(&self, id: &str) -> Answer {
        self.try_cancel(id).await.unwrap()
    }

    /// Reads an order.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn order(&self, id: &str) -> Answer {
        let request = self.http.get(format!("{}/v1/orders/{id}", self.query_url)).bearer_auth(&self.key);
        Answer::read(request.send().await.unwrap()).await.unwrap()
    }

    /// Waits until an order fulfils a condition, and returns it.
    ///
    /// # Panics
    /// When it does not by the deadline.
    pub async fn until_order(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let what = format!("order {id} {what}");
        until(&what, async || {
            let order = self.order(id).await.json();
            if holds(&order) { Ok(order) } else { Err(order) }
        })
        .await
    }

    /// Waits until an order has ended or is held, and returns it.
    ///
    /// # Panics
    /// When that is not as wanted, or has not come by the deadline.
    pub async fn until_ended(&self, id: &str, wanted: &str) -> Value {
        let ended = |order: &Value| ["DONE", "UNDONE", "HELD"].iter().any(|end| order["status"] == *end);
        let order = self.until_order(id, &format!("is {wanted}"), ended).await;
        assert_eq!(order["status"], wanted, "{order:#}");
        order
    }

    /// Waits until all of these orders are DONE.
    ///
    /// # Panics
    /// When one ends otherwise or not by the deadline.
    pub async fn until_done(&self, ids: &[String]) {
        for id in ids {
            self.until_ended(id, "DONE").await;
        }
    }
}
