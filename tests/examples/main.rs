//! The examples do what their documentation says.

mod agent;
mod control;
mod service;
mod upgrade;
mod web;

tester::modules!(agent, control, service, upgrade, web);
