//! The network to OpenRouter, in which requests are lost, late, duplicated and refused. The simulator answers
//! what arrives, in the same process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use jiff::SignedDuration;
use openrouter_simulator::{Account, Clock, InProcess, Options};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::openrouter::{
    Failure, Http, HttpAnswer, HttpRequest, Invalid, Network, Settings,
};

use crate::node::{Life, Node};
use crate::people::DYNAMIC;
use crate::weather::OnTheWay;
use crate::witness::Sent;
use crate::world::World;

/// Two accounts at OpenRouter.
pub(crate) struct OpenRouter {
    pub(crate) simulator: InProcess,
    pub(crate) accounts: [Account; 2],
}

impl OpenRouter {
    pub(crate) fn new(clock: Clock, seed: u64) -> Self {
        let options = Options {
            clock,
            seed: Some(seed),
            ..Options::default()
        };
        let simulator = InProcess::new(options).unwrap();
        let accounts = [simulator.account().clone(), simulator.add_account()];
        Self {
            simulator,
            accounts,
        }
    }
}

/// The network of one engine.
pub(crate) struct NodeNetwork {
    world: Arc<World>,
    server: usize,
    life: Arc<Life>,
}

impl NodeNetwork {
    pub(crate) fn new(world: &Arc<World>, server: usize, life: &Arc<Life>) -> Self {
        Self {
            world: Arc::clone(world),
            server,
            life: Arc::clone(life),
        }
    }
}

impl Network for NodeNetwork {
    fn connect(&self, settings: &Settings) -> Result<Box<dyn Http>, Invalid> {
        Ok(Box::new(NodeHttp {
            network: Self::new(&self.world, self.server, &self.life),
            time_limit: settings.request_timeout,
        }))
    }
}

struct NodeHttp {
    network: NodeNetwork,
    time_limit: Duration,
}

#[async_trait]
impl Http for NodeHttp {
    async fn send(&self, request: HttpRequest, _: usize) -> Result<HttpAnswer, Failure> {
        let NodeNetwork {
            world,
            server,
            life,
        } = &self.network;
        life.checkpoint().await;
        let what = name_of(&request);
        world.reach(*server, &format!("before {what}"));
        life.checkpoint().await;
        let weather = world.weather();
        let way = weather.on_the_way(&world.dice, &request.method, is_assignment(&request));
        if way == OnTheWay::Nowhere {
            sleep(Duration::from_millis(200)).await;
            return Err(Failure::NotSent("connection refused".to_owned()));
        }
        let sent = world.witness.sent(*server, &request, world.now());
        let (answered, answer) = oneshot::channel();
        // OpenRouter carries out what has arrived, even if the engine is gone.
        tokio::spawn(deliver(Arc::clone(world), request, sent, way, answered));
        let limited = tokio::time::timeout(self.time_limit, answer).await;
        world.reach(*server, &format!("after {what}"));
        life.checkpoint().await;
        match limited {
            Err(_) => Err(Failure::TimedOut),
            // The carrier of the request has dropped it.
            Ok(Err(_)) => Err(Failure::Lost("connection reset by peer".to_owned())),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

async fn deliver(
    world: Arc<World>,
    request: HttpRequest,
    sent: Sent,
    way: OnTheWay,
    answered: oneshot::Sender<HttpAnswer>,
) {
    let journey = || Duration::from_millis(world.dice.number(10, 150));
    sleep(journey()).await;
    let told = |what: &str| {
        let name = name_of(&request);
        let about: Vec<&str> = sent.about.iter().map(String::as_str).collect();
        world
            .story
            .tell_of(&about, format!("S{}: {name} {what}", sent.server));
    };
    match way {
        OnTheWay::Nowhere => return,
        OnTheWay::LostThere => {
            told("is lost on its way");
            return;
        }
        OnTheWay::Refused(status, wait) => {
            told(&format!("is refused with status {status}"));
            let _ = answered.send(refusal(status, wait));
            return;
        }
        OnTheWay::Hollow => {
            told("is answered, and not carried out");
            let _ = answered.send(assigned_nothing(&request));
            return;
        }
        OnTheWay::Late(delay) => {
            told(&format!("is late by {} s", delay.as_secs()));
            sleep(delay).await;
        }
        OnTheWay::Doubled(_) => told("will be repeated on its way"),
        OnTheWay::LostBack => told("arrives, its answer will be lost"),
        OnTheWay::Garbled(_) => told("arrives, its answer will be spoilt"),
        OnTheWay::Straight => {}
    }
    let answer = arrive(&world, &request, &sent, false).await;
    sleep(journey()).await;
    match way {
        OnTheWay::LostBack => {}
        OnTheWay::Garbled(status) => {
            let _ = answered.send(HttpAnswer {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: Ok(b"<html>Bad gateway</html>".to_vec()),
            });
        }
        OnTheWay::Doubled(delay) => {
            let _ = answered.send(answer);
            sleep(delay).await;
            told("arrives once more");
            arrive(&world, &request, &sent, true).await;
        }
        _ => {
            let _ = answered.send(answer);
        }
    }
}

/// The request takes effect, and once more if it is repeated.
async fn arrive(
    world: &Arc<World>,
    request: &HttpRequest,
    sent: &Sent,
    is_repeated: bool,
) -> HttpAnswer {
    world.before_arrival(request);
    let before = world.before_change(request);
    let mut builder = http::Request::builder()
        .method(request.method.clone())
        .uri(&request.url)
        .header(AUTHORIZATION, request.authorization.clone());
    if request.json.is_some() {
        builder = builder.header(CONTENT_TYPE, "application/json");
    }
    let body = Body::from(request.json.clone().unwrap_or_default());
    let answer = world
        .openrouter
        .simulator
        .send(builder.body(body).unwrap())
        .await;
    let (parts, body) = answer.expect("no fault is scripted").into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    if parts.status.is_success() && request.method != Method::GET {
        let body = serde_json::from_slice(&body).unwrap_or_default();
        had_effect(world, request, sent, &body);
        world.after_change(before, sent, is_repeated);
    }
    HttpAnswer {
        status: parts.status,
        headers: parts.headers,
        body: Ok(body),
    }
}

fn had_effect(world: &Arc<World>, request: &HttpRequest, sent: &Sent, body: &Value) {
    let server = sent.server;
    if is_assignment(request) {
        world.witness_assignment(request, sent);
    } else if request.method == Method::POST {
        let hash = body["data"]["hash"].as_str().unwrap();
        let name = body["data"]["name"].as_str().unwrap();
        world.witness_creation(hash, name, sent);
        world.crowd_standbys(name.split(' ').next().unwrap_or_default());
        world.judge_bounds(hash, sent);
        // The engine searches on its own schedule for what arrives after it stopped waiting.
        if name.starts_with(DYNAMIC) && world.now() < sent.at + PROMPT {
            tokio::spawn(watch_for_its_reader(Arc::clone(world), hash.to_owned()));
        }
    } else if request.method == Method::DELETE {
        world.witness_end(&sent.about[0], sent, "deleted");
        world.excuse_unreported(&sent.about[0]);
    } else if request.method == Method::PATCH {
        let about: Vec<&str> = sent.about.iter().map(String::as_str).collect();
        let name = world.story.name(about[0]);
        let body = request.json.as_deref().map(String::from_utf8_lossy);
        let body = body.unwrap_or_default();
        world
            .story
            .tell_of(&about, format!("S{server}: {name} is changed: {body}"));
        if body.contains(r#""disabled":true"#) {
            world.witness_end(about[0], sent, "disabled");
        }
    }
}

const PROMPT: SignedDuration = SignedDuration::from_secs(30);

/// Searches again after two minutes in which nothing went wrong.
async fn watch_for_its_reader(world: Arc<World>, hash: String) {
    let quiet = |node: &Node| !world.weather().is_bad() && !node.life.is_over();
    let Some(node) = world.active().filter(|node| quiet(node)) else {
        return;
    };
    for _ in 0..12 {
        sleep(Duration::from_secs(10)).await;
        if !quiet(&node) || world.secondary.is_one() {
            return;
        }
    }
    if world.witness.not_torn_down_for(300, world.now())
        && world
            .active()
            .is_some_and(|active| Arc::ptr_eq(&active, &node))
    {
        world.witness_unclaimed(&hash);
    }
}

fn is_assignment(request: &HttpRequest) -> bool {
    request.method == Method::POST && request.url.ends_with("/assignments/keys")
}

/// OpenRouter's answer when it has assigned all these keys.
fn assigned_nothing(request: &HttpRequest) -> HttpAnswer {
    let body = request.json.as_deref().unwrap_or_default();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let count = body["key_hashes"].as_array().map_or(0, Vec::len);
    let body = json!({"assigned_count": count}).to_string();
    HttpAnswer {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Ok(body.into_bytes()),
    }
}

fn refusal(status: u16, wait: Option<u64>) -> HttpAnswer {
    let body = json!({"error": {"code": status, "message": "not now"}});
    let mut headers = HeaderMap::new();
    if let Some(wait) = wait {
        headers.insert(RETRY_AFTER, wait.into());
    }
    HttpAnswer {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: Ok(body.to_string().into_bytes()),
    }
}

/// Method and path without hash and query, such as `DELETE /keys/*`.
fn name_of(request: &HttpRequest) -> String {
    let method = &request.method;
    let path = request
        .url
        .split_once("/api/v1")
        .map_or("", |(_, path)| path);
    match path.split(['?', '/']).collect::<Vec<_>>()[..] {
        [_, "keys", _] if !path.contains('?') => format!("{method} /keys/*"),
        _ => format!("{method} {}", path.split('?').next().unwrap_or_default()),
    }
}

/// The hash in a request's path.
pub(crate) fn hash_in(request: &HttpRequest) -> Option<&str> {
    let (_, hash) = request.url.split_once("/keys/")?;
    Some(hash)
}
