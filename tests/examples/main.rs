//! The examples do what their documentation says.

mod agent;
mod clockd;
mod control;
mod prefork;
mod server;
mod service;
mod upgrade;
mod web;

tester::modules!(agent, clockd, control, prefork, service, upgrade, web);
