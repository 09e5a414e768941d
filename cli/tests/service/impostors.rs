//! What is no service of the contract at all.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const REQUEST_BYTES: usize = 64 * 1024;

/// Answers every request with these bytes, and closes the connection.
pub(crate) async fn answering(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/steps", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                // Small requests come in one piece; the client may go away at any time.
                let _ = stream.read(&mut vec![0; REQUEST_BYTES]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    url
}

/// Answers 401 with the credentials it was sent, and keeps them.
pub(crate) async fn echoing() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/steps", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let refuse = move |headers: HeaderMap| {
        let value = headers["authorization"].to_str().unwrap().to_owned();
        let answer = format!("not you: {value}");
        kept.lock().unwrap().push(value);
        std::future::ready((StatusCode::UNAUTHORIZED, answer))
    };
    let routes = Router::new().fallback(refuse);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, seen)
}
