//! The examples do what their documentation says.

mod agent;
mod cache;
mod clockd;
mod control;
mod daemonize;
mod prefork;
mod proxy;
mod server;
mod service;
mod upgrade;
mod web;

tester::modules!(
    agent, cache, clockd, control, daemonize, prefork, proxy, service, upgrade, web
);
