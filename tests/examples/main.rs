//! The examples do what their documentation says.

mod agent;
mod cache;
mod clockd;
mod control;
mod cron;
mod daemonize;
mod prefork;
mod proxy;
mod server;
mod service;
mod threads;
mod upgrade;
mod web;

tester::modules!(
    agent, cache, clockd, control, cron, daemonize, prefork, proxy, service, threads, upgrade, web
);
