//! The examples do what their documentation says.

mod agent;
mod control;
mod service;
mod upgrade;

tester::modules!(agent, control, service, upgrade);
