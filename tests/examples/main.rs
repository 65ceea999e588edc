//! The examples do what their documentation says.

mod control;
mod service;
mod upgrade;

tester::modules!(control, service, upgrade);
