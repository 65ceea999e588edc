//! The examples do what their documentation says.

mod agent;
mod clockd;
mod control;
mod daemonize;
mod prefork;
mod server;
mod service;
mod upgrade;
mod web;

tester::modules!(
    agent, clockd, control, daemonize, prefork, service, upgrade, web
);
